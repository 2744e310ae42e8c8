"""The rules themselves, for a person who wants to know what is checked, and why it ought to hold."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from kvmtools.compare.rule import Rule
from kvmtools.compare.rules import RULES
from kvmtools.show.style import Paint, painter

WIDTH = 110
LABEL = 12


def rules_text(rules: Sequence[Rule] = RULES, *, color: bool = False) -> str:
    """Each of ``rules`` with its truth, source and exceptions; all of them, in the order in which they run."""
    paint = painter(color)
    return "\n\n".join("\n".join(_lines(rule, paint)) for rule in rules)


def rules_to_dict(rules: Sequence[Rule] = RULES) -> list[dict[str, Any]]:
    """The same for JSON."""
    return [
        {
            "rule": rule.id,
            "truth": rule.truth,
            "source": rule.source,
            "exceptions": rule.exceptions,
            "needs": list(rule.needs),
            "locks": list(rule.locks),
            "defers_to": list(rule.defers_to),
        }
        for rule in rules
    ]


def _lines(rule: Rule, paint: Paint) -> Iterator[str]:
    yield paint("name", rule.id)
    rows = {
        "truth": rule.truth,
        "source": rule.source,
        "exceptions": rule.exceptions,
        "locks": ", ".join(rule.locks),
        "defers to": ", ".join(rule.defers_to),
    }
    for label, text in rows.items():
        if text:
            yield from textwrap.wrap(
                text, WIDTH, initial_indent=f"  {label:<{LABEL}}", subsequent_indent=" " * (LABEL + 2)
            )

"""The rules themselves, for a person who wants to know what is checked, and why it ought to hold."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from kvmtools.findings import RuleEntry
from kvmtools.show.style import paint

WIDTH = 110
LABEL = 12


def rules_text(rules: Sequence[RuleEntry], *, color: bool = False) -> str:
    """Each of ``rules`` with its truth, source and exceptions, in their order."""
    return "\n\n".join("\n".join(_lines(rule, color)) for rule in rules)


def rules_to_dict(rules: Sequence[RuleEntry]) -> list[dict[str, Any]]:
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


def _lines(rule: RuleEntry, color: bool) -> Iterator[str]:
    yield paint(rule.id, fg="cyan", color=color)
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

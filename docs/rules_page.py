"""The page of rules is written from the rules themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import kvmtools
from kvmtools.report.catalogue import rules_to_dict

PLACE = "<!-- the rules -->"


def fill(_app: object, page: str, source: list[str]) -> None:
    """Sphinx's ``source-read``: put the rules where the page keeps a place for them."""
    if page == "rules":
        source[0] = source[0].replace(PLACE, "\n".join(_lines()))


def _lines() -> Iterator[str]:
    rules = rules_to_dict(kvmtools.rules())
    yield f"{len(rules)} rules."
    for group, members in groupby(rules, key=lambda rule: rule["rule"].partition(".")[0]):
        yield f"\n## {group}\n"
        for rule in members:
            yield f"### {rule['rule']}\n"
            yield f"{_text(rule['truth'])}.\n"
            yield f"* *source*: {_text(rule['source'])}"
            if rule["exceptions"] != "none":
                yield f"* *legally does not hold*: {_text(rule['exceptions'])}"
            for label, names in (
                ("needs", rule["needs"]),
                ("broken for a moment under", rule["locks"]),
                ("explained by", rule["defers_to"]),
            ):
                if names:
                    yield f"* *{label}*: {', '.join(f'`{name}`' for name in names)}"
            yield ""


def _text(said: str) -> str:
    """Words of ours as Markdown: nothing in them is meant as markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|" else sign for sign in said)

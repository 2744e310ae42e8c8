"""Colour for a terminal: a style is a word, and without colour it is nothing."""

from __future__ import annotations

from collections.abc import Callable

Paint = Callable[[str, str], str]

_CODES = {"bold": "1", "dim": "2", "good": "32", "bad": "31;1", "warn": "33", "name": "36"}

_ENDINGS = {"ies": "y", "eaves": "eaf", "ss": "ss", "s": ""}
"""How English nouns end in the plural and in the singular; the first that fits."""


def painter(color: bool) -> Paint:
    """``paint(style, text)``: with ANSI codes (ECMA-48 SGR), or the text as it is."""
    if not color:
        return lambda _style, text: text
    return lambda style, text: f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def examined(number: int, unit: str) -> str:
    """A number of what rules call their unit, a plural: ``1 hash entry``, ``512 slots in use``."""
    return f"{number:,} {' '.join(map(_singular, unit.split())) if number == 1 else unit}"


def _singular(word: str) -> str:
    for plural, singular in _ENDINGS.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + singular
    return word


def count(number: int, singular: str, plural: str = "") -> str:
    """``1 slot``, ``512 slots``, ``4,194,304 pages``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"

"""Colour for a terminal: a style is a word, and without colour it is nothing."""

from __future__ import annotations

from collections.abc import Callable

Paint = Callable[[str, str], str]

_CODES = {"bold": "1", "dim": "2", "good": "32", "bad": "31;1", "warn": "33", "name": "36"}


def painter(color: bool) -> Paint:
    """``paint(style, text)``: with ANSI codes (ECMA-48 SGR), or the text as it is."""
    if not color:
        return lambda _style, text: text
    return lambda style, text: f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def count(number: int, singular: str, plural: str = "") -> str:
    """``1 slot``, ``512 slots``, ``4,194,304 pages``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"

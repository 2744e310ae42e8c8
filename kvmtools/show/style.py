"""Colour for a terminal: a style is a word, and without colour it is nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO

Paint = Callable[[str, str], str]

_CODES = {"bold": "1", "dim": "2", "good": "32", "bad": "31;1", "warn": "33", "name": "36"}

_FOREGROUNDS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36"}

_ENDINGS = {"ies": "y", "eaves": "eaf", "ss": "ss", "s": ""}
"""How English nouns end in the plural and in the singular; the first that fits."""


def colour(stream: TextIO | None = None) -> bool:
    """Whether to colour: ``NO_COLOR`` and ``FORCE_COLOR`` decide before the terminal does (no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("TERM") == "dumb":
        return False
    return (stream or sys.stdout).isatty()


def paint(text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
    """``text`` in colour (ECMA-48 SGR) where colour is wanted.

    :raises KeyError: if ``fg`` is none of the few colours that we use
    """
    codes = [_FOREGROUNDS[fg]] if fg else []
    codes += ["1"] * bold + ["2"] * dim
    if not codes or not colour():
        return text
    return "".join(f"\x1b[{code}m" for code in codes) + f"{text}\x1b[0m"


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

"""Colour for a terminal, and how English counts."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

_SGR = re.compile(r"\x1b\[[0-9;]*m")
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


def paint(
    text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False, color: bool | None = None
) -> str:
    """``text`` in colour (ECMA-48 SGR), or as it is.

    :param color: whether to; :func:`colour` of stdout says so if nobody does
    :raises KeyError: if ``fg`` is none of the few colours that we use
    """
    codes = [_FOREGROUNDS[fg]] if fg else []
    codes += ["1"] * bold + ["2"] * dim
    if not codes or not (colour() if color is None else color):
        return text
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m"


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


def uncoloured(text: str) -> str:
    """``text`` without colour: for what is kept, compared or printed by others."""
    return _SGR.sub("", text)

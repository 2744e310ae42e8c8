"""Rows of text in columns, sizes for people, and a little colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvmtools.show.printable import printable
from kvmtools.show.style import paint

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading, and whether the cells lean to the right as numbers do."""

    title: str
    right: bool = False


def columns(titles: str) -> tuple[Heading, ...]:
    """Columns by their titles; a ``>`` before one leans it right: ``"zone >present >managed"``."""
    return tuple(
        Heading(title.lstrip(">").replace("_", " "), title.startswith(">")) for title in titles.split()
    )


def table(heads: Sequence[Heading], rows: Iterable[Sequence[object]]) -> str:
    """Text with one line per row under one line of headings; columns are as wide as their widest cell."""
    # Column by column: there may be a million rows.
    padded = []
    for head, column in zip(heads, zip(*([head.title for head in heads], *rows), strict=True), strict=True):
        cells = list(map(str, column))
        if not all(map(str.isprintable, cells)):
            cells = list(map(printable, cells))
        width = max(map(len, cells))
        padded.append(
            [cell.rjust(width) for cell in cells] if head.right else [cell.ljust(width) for cell in cells]
        )
    lines = [row.rstrip() for row in map("  ".join, zip(*padded, strict=True))]
    return "\n".join([paint(lines[0], bold=True), *lines[1:]])


def size(number: int) -> str:
    """Bytes for a person: exact in the largest unit that gives a short number, else one decimal."""
    for unit, name in _UNITS:
        if number % unit == 0 and 1 <= number // unit < 10_000:
            return f"{number // unit} {name}"
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"


def hexadecimal(number: int | None, width: int = 0) -> str | None:
    """An address as JSON carries it: ``0x`` and no more digits than needed, or ``width``; ``None`` stays ``None``."""
    return None if number is None else f"{number:#0{width + 2}x}"


def permissions(writable: bool, executable: bool, user: bool) -> str:
    """Effective permissions as ``ls`` would write them, and whose: ``"rw- user"``, ``"r-x kernel"``."""
    return f"r{'w' if writable else '-'}{'x' if executable else '-'} {'user' if user else 'kernel'}"

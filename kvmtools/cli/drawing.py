"""Pictures made of characters: the slots of pkmap, and the kernel's address space from its top to its bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvmtools.cli.tables import paint, size

SLOTS_PER_LINE = 64
_MOST_DIGIT = 9
_COLOURS = {".": None, "o": "yellow", "+": "cyan", "!": "red"}

LEGEND = (
    ". free (0)   o mapped, no user (1)   1-9 users   + ten or more   ! count and PTE disagree   "
    "^ cursor (last_pkmap_nr)"
)


@dataclass(frozen=True, slots=True)
class Boundary:
    """One edge of the drawn address space: where it is, where the model has it; either may be unknown."""

    name: str
    live: int | None
    model: int | None

    @property
    def agrees(self) -> bool | None:
        """``None`` if one side does not know."""
        return None if self.live is None or self.model is None else self.live == self.model


def slot_mark(count: int, present: bool) -> str:
    """One character for one pkmap slot: ``pkmap_count`` is the number of users plus one (mm/highmem.c)."""
    if count < 0 or (count > 0) != present:
        return "!"
    if count < 2:
        return ".o"[count]
    return str(count - 1) if count - 1 <= _MOST_DIGIT else "+"


def slots_picture(marks: Sequence[str], base: int | None, cursor: int) -> Iterator[str]:
    """Lines of 64 slots, each with its first slot and that slot's address; a caret under the cursor."""
    for first in range(0, len(marks), SLOTS_PER_LINE):
        row = marks[first : first + SLOTS_PER_LINE]
        label = f"{first:>4}  " + (f"{base + (first << 12):08x}" if base is not None else " " * 8) + "  "
        yield label + "".join(paint(mark, fg=_COLOURS.get(mark, "green")) for mark in row)
        if first <= cursor < first + len(row):
            yield " " * (len(label) + cursor - first) + paint("^", bold=True)


def address_space_picture(edges: Sequence[Boundary], names: Sequence[str]) -> Iterator[str]:
    """The edges from the top down with the region below each.

    :param edges: descending
    :param names: ``names[i]`` is the region between ``edges[i]`` and ``edges[i + 1]``; one fewer than edges
    """
    last = len(edges) - 1
    for place, edge in enumerate(edges):
        where = edge.live if edge.live is not None else edge.model
        corner = "┬" if place == 0 else "┴" if place == last else "┼"
        yield f"{_address(edge.live)}  {corner}── {edge.name:<22} {_beside(edge)}".rstrip()
        if place < last:
            below = edges[place + 1]
            low = below.live if below.live is not None else below.model
            extent = size(where - low) if where is not None and low is not None else ""
            yield " " * 10 + "│" + f"{'':6}{names[place]:<24} {extent:>10}".rstrip()


def _address(value: int | None) -> str:
    return "   ?    " if value is None else f"{value:08x}"


def _beside(edge: Boundary) -> str:
    """What the model says, beside the live value."""
    if edge.model is None:
        return ""
    if edge.live is None:
        return paint(f"? model: {edge.model:08x}", dim=True)
    return paint("= model", dim=True) if edge.agrees else paint(f"≠ model: {edge.model:08x}", fg="red", bold=True)

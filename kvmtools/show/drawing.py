"""Pictures made of characters: the slots of pkmap, and the kernel's address space from the top down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from kvmtools.show.style import paint
from kvmtools.show.tables import size

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

    @property
    def place(self) -> int:
        """Where to draw it: the live value, else the model's."""
        return self.live if self.live is not None else self.model or 0


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge as it is drawn: its place, what is written there, its name, and a remark beside it."""

    place: int
    written: str
    name: str
    remark: str = ""


def slot_mark(count: int, present: bool) -> str:
    """One character for one pkmap slot: ``pkmap_count`` is the number of users plus one (mm/highmem.c)."""
    if count < 0 or (count > 0) != present:
        return "!"
    if count < 2:
        return ".o"[count]
    return str(count - 1) if count - 1 <= _MOST_DIGIT else "+"


def slots_picture(marks: Sequence[str], base: int | None, cursor: int | None) -> Iterator[str]:
    """Lines of 64 slots, each with its first slot and that slot's address; a caret under the cursor."""
    for first in range(0, len(marks), SLOTS_PER_LINE):
        row = marks[first : first + SLOTS_PER_LINE]
        label = f"{first:>4}  " + (f"{base + (first << 12):08x}" if base is not None else " " * 8) + "  "
        yield label + "".join(
            paint("".join(run), fg=fg) for fg, run in groupby(row, lambda mark: _COLOURS.get(mark, "green"))
        )
        if cursor is not None and first <= cursor < first + len(row):
            yield " " * (len(label) + cursor - first) + paint("^", bold=True)


def address_space_picture(edges: Sequence[Boundary], below: Sequence[str]) -> Iterator[str]:
    """The edges from the top down with the region below each.

    :param edges: descending; the last one has nothing below it
    :param below: what lies between an edge and the next; one fewer than edges
    """
    return staircase(
        [
            Edge(edge.place, "   ?    " if edge.live is None else f"{edge.live:08x}", edge.name, beside(edge))
            for edge in edges
        ],
        below,
    )


def staircase(edges: Sequence[Edge], below: Sequence[str]) -> Iterator[str]:
    """A line for every edge from the top down, and between two that are apart a line for what lies there.

    :param edges: descending; the last one has nothing below it
    :param below: what lies between an edge and the next; one fewer than edges
    """
    last = len(edges) - 1
    for number, edge in enumerate(edges):
        corner = "┬" if number == 0 else "┴" if number == last else "┼"
        yield f"{edge.written}  {corner}── {edge.name:<22} {edge.remark}".rstrip()
        if number < last and edge.place > edges[number + 1].place:
            yield f"{'':10}│{'':6}{below[number]:<26} {size(edge.place - edges[number + 1].place):>10}"


def beside(edge: Boundary, form: str = "08x") -> str:
    """What the model says, beside the live value; ``form`` is how to write it."""
    if edge.model is None:
        return ""
    if edge.live is None:
        return paint(f"? model: {edge.model:{form}}", dim=True)
    return (
        paint("= model", dim=True)
        if edge.agrees
        else paint(f"≠ model: {edge.model:{form}}", fg="red", bold=True)
    )

"""Physical memory as a page draws it: rows of cells, one path for each state, and a mark where something is found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kvmtools.report.page.reported import FindingPlaces, NumberedFinding
from kvmtools.show.printable import printable
from kvmtools.survey import PageMap, ZoneFill

COLUMNS = 128
_MINOR = 8
"""What is a cell's second state shows if it is at least one part in so many."""


@dataclass(frozen=True, slots=True)
class StateDrawing:
    """The cells of one state, as data of an SVG path in units of cells, and how many pages are in it."""

    name: str
    most: str
    """Cells of which most pages are in it."""
    some: str
    """The middles of those that have many beside another state."""
    pages: int


@dataclass(frozen=True, slots=True)
class CellMark:
    """A cell in which something is found."""

    x: int
    y: int
    pfn: int
    found: tuple[NumberedFinding, ...]


@dataclass(frozen=True, slots=True)
class MemoryDrawing:
    """All of it; ``edges`` is the path along which zones meet."""

    columns: int
    rows: int
    states: tuple[StateDrawing, ...]
    edges: str
    marks: tuple[CellMark, ...]


def memory_drawing(pages: PageMap, zones: Sequence[ZoneFill], places: FindingPlaces) -> MemoryDrawing:
    """The picture."""
    most, some = _paths(pages)
    totals = [
        sum(number * counts[state] for number, counts in pages.runs) for state in range(len(pages.states))
    ]
    return MemoryDrawing(
        COLUMNS,
        -(-pages.cells // COLUMNS),
        tuple(
            StateDrawing(name, "".join(most[number]), "".join(some[number]), totals[number])
            for number, name in enumerate(pages.states)
        ),
        edges="".join(_edge(zone.start_pfn // pages.cell_pages) for zone in zones if zone.start_pfn),
        marks=tuple(_marks(pages, places)),
    )


def memory_data(
    pages: PageMap | None, zones: Sequence[ZoneFill], places: FindingPlaces
) -> dict[str, Any] | None:
    """What the script says of the cell under the cursor."""
    if pages is None:
        return None
    found: defaultdict[int, list[int]] = defaultdict(list)
    for pfn, each in places.pfns():
        found[pfn // pages.cell_pages].append(each.number)
    spans = [(zone.label, zone.start_pfn, zone.end_pfn) for zone in zones]
    return {
        "columns": COLUMNS,
        "pages": pages.pages,
        "cell": pages.cell_pages,
        "states": pages.states,
        "runs": [[number, *_sparse(counts)] for number, counts in pages.runs],
        "zones": [[printable(label), start, end] for label, start, end in spans if None not in (start, end)],
        "found": sorted(found.items()),
    }


def _sparse(counts: tuple[int, ...]) -> Iterator[int]:
    """State, pages, state, pages, ... of those that have any."""
    for state, number in enumerate(counts):
        if number:
            yield from (state, number)


def _paths(pages: PageMap) -> tuple[defaultdict[int, list[str]], defaultdict[int, list[str]]]:
    most: defaultdict[int, list[str]] = defaultdict(list)
    some: defaultdict[int, list[str]] = defaultdict(list)
    at = 0
    for state, group in groupby(pages.runs, key=lambda run: _first(run[1])):
        start = at
        for number, counts in group:
            second = _second(counts)
            if second is not None:
                some[second] += [_dot(cell) for cell in range(at, at + number)]
            at += number
        most[state] += _bars(start, at)
    return most, some


def _first(counts: tuple[int, ...]) -> int:
    return max(range(len(counts)), key=counts.__getitem__)


def _second(counts: tuple[int, ...]) -> int | None:
    """The state that has most of the rest, if that is enough to be seen."""
    first = _first(counts)
    rest = [0 if state == first else number for state, number in enumerate(counts)]
    second = _first(tuple(rest))
    return second if rest[second] * _MINOR >= sum(counts) else None


def _bars(start: int, end: int) -> Iterator[str]:
    """Cells ``[start, end)``: whole rows in one, what is left of a row before and behind."""
    while start < end:
        x, y = start % COLUMNS, start // COLUMNS
        rows = (end - start) // COLUMNS if x == 0 else 0
        width = COLUMNS if rows else min(end - start, COLUMNS - x)
        yield f"M{x} {y}h{width}v{rows or 1}h-{width}z"
        start += width * (rows or 1)


def _dot(cell: int) -> str:
    return f"M{cell % COLUMNS}.3 {cell // COLUMNS}.3h.4v.4h-.4z"


def _edge(cell: int) -> str:
    """The line between a cell and the one before it: along the row, a step, and along the row above."""
    x, y = cell % COLUMNS, cell // COLUMNS
    return f"M0 {y + 1}H{x}V{y}H{COLUMNS}" if x else f"M0 {y}H{COLUMNS}"


def _marks(pages: PageMap, places: FindingPlaces) -> Iterator[CellMark]:
    by_cell: defaultdict[int, list[tuple[int, NumberedFinding]]] = defaultdict(list)
    for pfn, each in places.pfns():
        by_cell[pfn // pages.cell_pages].append((pfn, each))
    for cell, found in sorted(by_cell.items()):
        numbered = tuple(each for _, each in found)
        yield CellMark(cell % COLUMNS, cell // COLUMNS, found[0][0], numbered)

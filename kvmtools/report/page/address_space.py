"""The address space as a page draws it: what lies between boundaries, by the guest and by the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvmtools.report.page.reported import FindingPlaces
from kvmtools.show.drawing import Boundary
from kvmtools.show.layout import BELOW
from kvmtools.show.printable import printable
from kvmtools.show.tables import permissions, size
from kvmtools.survey import SpaceMap


@dataclass(frozen=True, slots=True)
class SpaceArea:
    """What lies between two boundaries, ``[start, end)``, by one side's word."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """A boundary, and the area right below it, for the table beside the drawing."""

    edge: Boundary
    below: SpaceArea | None


def areas(space: SpaceMap, side: str) -> list[SpaceArea]:
    """From the top down, by the boundaries of a side; where it does not know one, it is where the other has it.

    :param side: ``"live"`` or ``"model"``; without any boundary of its own it has no areas
    """
    if all(getattr(edge, side) is None for edge in space.boundaries):
        return []
    known = [(edge, getattr(edge, side)) for edge in _known(space)]
    return _between(space, [(edge.place if at is None else at, edge.name) for edge, at in known])


def _known(space: SpaceMap) -> list[Boundary]:
    """The boundaries that either side knows."""
    return [edge for edge in space.boundaries if edge.live is not None or edge.model is not None]


def _between(space: SpaceMap, edges: list[tuple[int, str]]) -> list[SpaceArea]:
    """The areas, each with the name of what is below the edge above it; of edges at one place the lowest names it."""
    order = list(BELOW)
    edges = sorted(edges, key=lambda edge: (-edge[0], order.index(edge[1])))
    found = [SpaceArea("(above the fixmap)", edges[0][0], space.end)]
    no_pkmap = not any(name == "pkmap_base" for _at, name in edges)
    for (end, name), (start, _) in zip(edges, [*edges[1:], (space.start, "")], strict=True):
        below = BELOW[name]
        if start < end:
            found.append(SpaceArea("(guard)" if below == "pkmap" and no_pkmap else below, start, end))
    return found


def space_rows(space: SpaceMap | None) -> list[SpaceRow]:
    """A row for every boundary, from the top down."""
    return [] if space is None else list(_rows(space))


def _rows(space: SpaceMap) -> Iterator[SpaceRow]:
    order = list(BELOW)
    known = _known(space)
    if not known:
        return
    below = {area.end: area for area in _between(space, [(edge.place, edge.name) for edge in known])}
    edges = sorted(known, key=lambda edge: (-edge.place, order.index(edge.name)))
    for edge, after in zip(edges, [*edges[1:], None], strict=True):
        # Of edges at one place, the last has the area below them all.
        yield SpaceRow(edge, None if after and after.place == edge.place else below.get(edge.place))


def space_data(space: SpaceMap | None, places: FindingPlaces) -> dict[str, Any] | None:
    """What the script draws, as numbers and short texts."""
    if space is None:
        return None
    return {
        "start": space.start,
        "end": space.end,
        "guest": [[area.name, area.start, area.end] for area in areas(space, "live")],
        "model": [[area.name, area.start, area.end] for area in areas(space, "model")],
        "mapped": [
            [
                each.start,
                each.end,
                permissions(each.writable, each.executable, each.user),
                f"{printable(each.region)}, {size(each.page_size)} pages",
            ]
            for each in space.mapped
        ],
        "found": [[address, each.number, printable(each.title)] for address, each in places.addresses()],
    }

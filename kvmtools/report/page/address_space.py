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
    """From the top down, by the boundaries that a side knows; none if it knows none.

    :param side: ``"live"`` or ``"model"``
    """
    known = [(getattr(edge, side), edge.name) for edge in space.boundaries]
    edges = sorted(((at, name) for at, name in known if at is not None), reverse=True)
    if not edges:
        return []
    found = [SpaceArea("(above the fixmap)", edges[0][0], space.end)]
    no_pkmap = not any(edge.name == "pkmap_base" for edge in space.boundaries)
    for (end, name), (start, _) in zip(edges, [*edges[1:], (space.start, "")], strict=True):
        below = BELOW[name]
        if start < end:
            found.append(SpaceArea("(guard)" if below == "pkmap" and no_pkmap else below, start, end))
    return found


def space_rows(space: SpaceMap | None) -> list[SpaceRow]:
    """A row for every boundary, from the top down."""
    return [] if space is None else list(_rows(space))


def _rows(space: SpaceMap) -> Iterator[SpaceRow]:
    below = {area.end: area for side in ("model", "live") for area in areas(space, side)}
    for edge in sorted(space.boundaries, key=lambda edge: -edge.place):
        yield SpaceRow(edge, below.get(edge.place))


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

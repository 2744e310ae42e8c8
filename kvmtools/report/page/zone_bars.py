"""Zones as a page draws them: a bar with the watermarks, and the free blocks by order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvmtools.report.page.reported import FindingPlaces, NumberedFinding, zone_anchor
from kvmtools.survey import ZoneFill

WIDTH = 1000
_DEEPEST = 5
"""Shades of a number of blocks."""


@dataclass(frozen=True, slots=True)
class BlockCell:
    """How many free blocks of an order, how deep it is shaded, and how many pages they are."""

    blocks: int
    shade: int
    pages: int


@dataclass(frozen=True, slots=True)
class ZoneBar:
    """A zone; ``fill`` and ``marks`` are in thousandths of what is managed."""

    zone: ZoneFill
    anchor: str
    fill: int
    marks: tuple[tuple[str, int, int], ...]
    """Name, pages and place of each watermark."""
    orders: tuple[int, ...]
    rows: tuple[tuple[str, tuple[BlockCell, ...]], ...]
    found: tuple[NumberedFinding, ...]


def zone_bars(zones: Sequence[ZoneFill], places: FindingPlaces) -> list[ZoneBar]:
    """One for each zone."""
    return [_bar(zone, places) for zone in zones]


def _bar(zone: ZoneFill, places: FindingPlaces) -> ZoneBar:
    whole = zone.managed or 0
    blocks = zone.blocks or ()
    anchor = zone_anchor(zone)
    return ZoneBar(
        zone,
        anchor,
        fill=_place(zone.free or 0, whole),
        marks=tuple((name, at, _place(at, whole)) for name, at in (zone.watermarks or {}).items()),
        orders=tuple(range(len(blocks[0][1]))) if blocks else (),
        rows=tuple(
            (name, tuple(_cell(number, order) for order, number in enumerate(row))) for name, row in blocks
        ),
        found=tuple(places.at(anchor)),
    )


def _place(pages: int, whole: int) -> int:
    return max(0, min(WIDTH, round(pages * WIDTH / whole))) if whole > 0 else 0


def _cell(blocks: int, order: int) -> BlockCell:
    """The shade grows with the number of digits, in base four."""
    return BlockCell(blocks, min(_DEEPEST, (blocks.bit_length() + 1) // 2), blocks << order)

"""Zones in text: where each lies, what is free in it, and what the CPUs keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvmtools.records import PAGE_SIZE
from kvmtools.show.tables import columns, size, table


def zones_text(zones: Sequence[Any]) -> str:
    """Three tables, in pages of 4 KiB unless a unit is given.

    Free blocks are counted on the lists; where the kernel's nr_free says otherwise, it stands beside in brackets.

    :param zones: :class:`kvmtools.Zones`
    """
    marks = " ".join(f">{mark}" for mark in zones[0].watermarks)
    spans = table(
        columns(f"zone pfns >spanned >present >managed >free >free {marks}"),
        (
            [
                zone.place.label, f"{zone.start_pfn:#x}-{zone.end_pfn:#x}" if zone.spanned else "empty",
                zone.spanned, zone.present, zone.managed, zone.free_pages, size(zone.free_pages * PAGE_SIZE),
                *zone.watermarks.values(),
            ]
            for zone in zones
        ),
    )  # fmt: skip
    populated = [zone for zone in zones if zone.present]
    orders = [area.order for area in zones[0].free_area]
    blocks = table(
        columns("free_blocks migratetype " + " ".join(f">{order}" for order in orders)),
        [row for zone in populated for row in _block_rows(zone)],
    )
    per_cpu = table(
        columns("per-CPU >cpu >count >listed >high >batch"),
        (
            [zone.place.label, p.cpu, p.count, p.pages, p.high, p.batch]
            for zone in populated
            for p in zone.pcp
        ),
    )
    return "\n\n".join((spans, blocks, per_cpu))


def _block_rows(zone: Any) -> list[list[object]]:
    """One row per migratetype that has a block of any order, then their sum."""
    types = [each.migratetype for each in zone.free_area[0].lists]
    rows: list[list[object]] = []
    for number, name in enumerate(types):
        counts = [len(area.lists[number].pages) for area in zone.free_area]
        if any(counts):
            rows.append([zone.place.label, name.lower(), *counts])
    rows.append([zone.place.label, "all", *(_total(area.blocks, area.nr_free) for area in zone.free_area)])
    return rows


def _total(listed: int, nr_free: int) -> str:
    return str(listed) if listed == nr_free else f"{listed} ({nr_free})"

"""Zones in text: where each lies, what is free in it, and what the CPUs keep."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from kvmtools.records import PAGE_SIZE
from kvmtools.show.gaps import UNKNOWN, Gaps
from kvmtools.show.tables import columns, size, table


def zones_text(zones: Sequence[Any]) -> str:
    """Three tables, in pages of 4 KiB unless a unit is given; of what this kernel lacks, why.

    Free blocks are counted on the lists; where the kernel's nr_free says otherwise, it stands beside in brackets.

    :param zones: :class:`kvmtools.Zones`
    """
    gaps = Gaps()
    # Of a zone of which nobody knows whether it has pages, the rest is shown.
    populated = [zone for zone in zones if gaps.get(zone, "present") != 0]
    tables = (_spans(zones, gaps), _free_blocks(populated, gaps), _per_cpu(populated, gaps))
    return "\n\n".join([*filter(None, tables), *gaps.paragraph()])


def _spans(zones: Sequence[Any], gaps: Gaps) -> str:
    marks: dict[str, int] = next(filter(None, (gaps.get(zone, "watermarks") for zone in zones)), {})
    rows = []
    for zone in zones:
        free = gaps.get(zone, "free_pages")
        levels = gaps.get(zone, "watermarks") or dict.fromkeys(marks, UNKNOWN)
        rows.append(
            [
                zone.place.label, gaps.read(partial(_pfns, zone), UNKNOWN),
                *gaps.cells(zone, "spanned present managed"),
                *((UNKNOWN, UNKNOWN) if free is None else (free, size(free * PAGE_SIZE))), *levels.values(),
            ]
        )  # fmt: skip
    heads = columns(
        f"zone pfns >spanned >present >managed >free >free {' '.join(f'>{mark}' for mark in marks)}"
    )
    return table(heads, rows)


def _pfns(zone: Any) -> str:
    return f"{zone.start_pfn:#x}-{zone.end_pfn:#x}" if zone.spanned else "empty"


def _free_blocks(populated: Sequence[Any], gaps: Gaps) -> str:
    """One row per zone and migratetype that has a block of any order, then their sum."""
    listed = [(zone.place.label, gaps.get(zone, "free_area")) for zone in populated]
    known = [(label, areas) for label, areas in listed if areas is not None]
    if not known:
        return ""
    orders = [area.order for area in known[0][1]]
    rows = [row for label, areas in known for row in _block_rows(label, areas)]
    return table(columns("free_blocks migratetype " + " ".join(f">{order}" for order in orders)), rows)


def _block_rows(label: str, areas: Sequence[Any]) -> list[list[object]]:
    rows: list[list[object]] = []
    for number, name in enumerate(each.migratetype for each in areas[0].lists):
        counts = [len(area.lists[number].pages) for area in areas]
        if any(counts):
            rows.append([label, name.lower(), *counts])
    rows.append([label, "all", *(_total(area.blocks, area.nr_free) for area in areas)])
    return rows


def _total(listed: int, nr_free: int) -> str:
    return str(listed) if listed == nr_free else f"{listed} ({nr_free})"


def _per_cpu(populated: Sequence[Any], gaps: Gaps) -> str:
    rows = [
        [zone.place.label, *gaps.cells(pageset, "cpu count pages high batch")]
        for zone in populated
        for pageset in gaps.get(zone, "pcp") or ()
    ]
    return table(columns("per-CPU >cpu >count >listed >high >batch"), rows) if rows else ""

"""``kvmtools zones``: where each zone lies, what is free in it, and what the CPUs keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.session import attached
from kvmtools.records import PAGE_SIZE
from kvmtools.show.tables import columns, hexadecimal, size, table

if TYPE_CHECKING:
    from kvmtools.observe.zones.zones import Zone


@click.command()
@target_options
@format_option
def command(options: TargetOptions, form: str) -> None:
    """Show every zone's span, sizes and watermarks, its free blocks by order, and the per-CPU lists.

    Free blocks are counted on the lists themselves; where the kernel's nr_free says otherwise, it stands
    beside in brackets.  All sizes are in pages of 4 KiB unless a unit is given.

    \b
    kvmtools zones -g pae
    kvmtools zones -c core -s vmlinux --format json
    """
    with attached(options) as session:
        zones = session.observe(processes=False).zones
        said = consistency(session, form)
    if form == "json":
        emit_json("zones", zones=[_json(zone) for zone in zones], **said)
    else:
        emit(_text(zones))


def _json(zone: Zone) -> dict[str, Any]:
    return {
        "zone": zone.name,
        "struct_zone": hexadecimal(zone.address),
        "start_pfn": zone.start_pfn,
        "end_pfn": zone.end_pfn,
        "spanned_pages": zone.spanned,
        "present_pages": zone.present,
        "managed_pages": zone.managed,
        "free_pages": zone.free_pages,
        "watermark_pages": zone.watermarks,
        "watermark_boost_pages": zone.watermark_boost,
        "lowmem_reserve_pages": list(zone.lowmem_reserve),
        "free_area": [
            {
                "order": area.order,
                "nr_free": area.nr_free,
                "blocks": {each.migratetype: len(each.pages) for each in area.lists},
                "broken": [each.broken for each in area.lists if each.broken],
            }
            for area in zone.free_area
        ],
        "per_cpu": [
            {
                "cpu": pcp.cpu,
                "count_pages": pcp.count,
                "listed_pages": pcp.pages,
                "high_pages": pcp.high,
                "batch_pages": pcp.batch,
            }
            for pcp in zone.pcp
        ],
    }


def _text(zones: tuple[Zone, ...]) -> str:
    marks = " ".join(f">{mark}" for mark in zones[0].watermarks)
    spans = table(
        columns(f"zone pfns >spanned >present >managed >free >free {marks}"),
        (
            [
                zone.name, f"{zone.start_pfn:#x}-{zone.end_pfn:#x}" if zone.spanned else "empty",
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
        ([zone.name, p.cpu, p.count, p.pages, p.high, p.batch] for zone in populated for p in zone.pcp),
    )
    return "\n\n".join((spans, blocks, per_cpu))


def _block_rows(zone: Zone) -> list[list[object]]:
    """One row per migratetype that has a block of any order, then their sum."""
    types = [each.migratetype for each in zone.free_area[0].lists]
    rows: list[list[object]] = []
    for number, name in enumerate(types):
        counts = [len(area.lists[number].pages) for area in zone.free_area]
        if any(counts):
            rows.append([zone.name, name.lower(), *counts])
    rows.append([zone.name, "all", *(_total(area.blocks, area.nr_free) for area in zone.free_area)])
    return rows


def _total(listed: int, nr_free: int) -> str:
    return str(listed) if listed == nr_free else f"{listed} ({nr_free})"

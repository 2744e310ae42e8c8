"""``kvmtools zones``: where each zone lies, what is free in it, and what the CPUs keep."""

from __future__ import annotations

from typing import Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.show.tables import hexadecimal
from kvmtools.show.zones import zones_text


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
    with options.open() as kernel:
        zones = kernel.zones()
        said = consistency(kernel, form)
    if form == "json":
        emit_json("zones", zones=[_json(zone) for zone in zones], **said)
    else:
        emit(zones_text(zones))


def _json(zone: Any) -> dict[str, Any]:
    return {
        "node": zone.place.node,
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

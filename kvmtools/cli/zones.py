"""``kvmtools zones``: where each zone lies, what is free in it, and what the CPUs keep."""

from __future__ import annotations

from typing import Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.show.gaps import Gaps
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
        gaps = Gaps()
        emit_json("zones", zones=[_json(zone, gaps) for zone in zones], **gaps.document(), **said)
    else:
        emit(zones_text(zones))


def _json(zone: Any, gaps: Gaps) -> dict[str, Any]:
    reserve, areas, pagesets = (gaps.get(zone, name) for name in ("lowmem_reserve", "free_area", "pcp"))
    return {
        "node": zone.place.node,
        "zone": zone.name,
        "struct_zone": hexadecimal(zone.address),
        "start_pfn": gaps.get(zone, "start_pfn"),
        "end_pfn": gaps.get(zone, "end_pfn"),
        "spanned_pages": gaps.get(zone, "spanned"),
        "present_pages": gaps.get(zone, "present"),
        "managed_pages": gaps.get(zone, "managed"),
        "free_pages": gaps.get(zone, "free_pages"),
        "watermark_pages": gaps.get(zone, "watermarks"),
        "watermark_boost_pages": gaps.get(zone, "watermark_boost"),
        "lowmem_reserve_pages": None if reserve is None else list(reserve),
        "free_area": None if areas is None else list(map(_free_area, areas)),
        "per_cpu": None if pagesets is None else [_pageset(each, gaps) for each in pagesets],
    }


def _free_area(area: Any) -> dict[str, Any]:
    return {
        "order": area.order,
        "nr_free": area.nr_free,
        "blocks": {each.migratetype: len(each.pages) for each in area.lists},
        "broken": [each.broken for each in area.lists if each.broken],
    }


def _pageset(pageset: Any, gaps: Gaps) -> dict[str, Any]:
    return {
        "cpu": pageset.cpu,
        "count_pages": gaps.get(pageset, "count"),
        "listed_pages": gaps.get(pageset, "pages"),
        "high_pages": gaps.get(pageset, "high"),
        "batch_pages": gaps.get(pageset, "batch"),
    }

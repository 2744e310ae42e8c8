"""``kvmtools pkmap``: a picture of the window through which ``kmap()`` shows highmem pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.show.gaps import Gaps
from kvmtools.show.pkmap import pkmap_text
from kvmtools.show.tables import hexadecimal

if TYPE_CHECKING:
    from kvmtools.api.pkmap import LocalSlot, PkmapSlots, UsedSlot


@click.command()
@target_options
@format_option
def command(options: TargetOptions, form: str) -> None:
    """Draw the 512 (PAE) or 1024 slots of pkmap and list those in use.

    A slot's count is the number of its users plus one; 1 is a page that nobody uses any more and that the
    next flush unmaps (mm/highmem.c).  The pages mapped by kmap_local_page() in the fixmap are listed too.

    \b
    kvmtools pkmap -g pae
    kvmtools pkmap -c core -s vmlinux --format json
    """
    with options.open() as kernel:
        slots = kernel.pkmap()
        said = consistency(kernel, form)
    if form == "json":
        emit_json("pkmap", **_json(slots), **said)
    elif slots is None:
        emit("this kernel has no pkmap: it was built without CONFIG_HIGHMEM")
    else:
        emit(pkmap_text(slots))


def _json(slots: PkmapSlots | None) -> dict[str, Any]:
    if slots is None:
        return {"pkmap": None, "kmap_local": []}
    gaps, area, digits = Gaps(), slots.area, 2 * slots.entry_size
    buckets, local = gaps.get(area, "buckets"), gaps.get(slots, "local")
    pkmap = {
        "base": hexadecimal(gaps.get(area, "base")),
        "slots": len(slots),
        "cursor": gaps.get(area, "cursor"),
        "page_table_physical": hexadecimal(area.page_table_physical, 9),
        "waiters": gaps.get(area, "waiters"),
        "hash_entries": None if buckets is None else sum(len(bucket.entries) for bucket in buckets),
        "used": [_used(slot, digits, gaps) for slot in slots.used],
    }
    kmap_local = None if local is None else [_local(slot, digits, gaps) for slot in local]
    return {"pkmap": pkmap, "kmap_local": kmap_local, **gaps.document()}


def _used(slot: UsedSlot, digits: int, gaps: Gaps) -> dict[str, Any]:
    return {
        "slot": slot.slot,
        "virtual": hexadecimal(gaps.get(slot, "virtual")),
        "count": slot.count,
        "users": slot.users,
        "pte": hexadecimal(slot.pte, digits),
        "pfn": slot.pfn,
        "page": hexadecimal(gaps.get(slot, "page")),
        "zone": gaps.get(slot, "zone"),
    }


def _local(slot: LocalSlot, digits: int, gaps: Gaps) -> dict[str, Any]:
    return {
        "cpu": gaps.get(slot, "cpu"),
        "index": gaps.get(slot, "index"),
        "virtual": hexadecimal(gaps.get(slot, "virtual")),
        "pte": hexadecimal(slot.pte, digits),
        "pfn": slot.pfn,
    }

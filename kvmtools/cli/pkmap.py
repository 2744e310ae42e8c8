"""``kvmtools pkmap``: a picture of the window through which ``kmap()`` shows highmem pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.session import attached
from kvmtools.observe.paging.forms import PRESENT, Form, paging_form
from kvmtools.records import PAGE_SHIFT
from kvmtools.show.drawing import LEGEND, slot_mark, slots_picture
from kvmtools.show.style import paint
from kvmtools.show.tables import columns, hexadecimal, table

if TYPE_CHECKING:
    from kvmtools.observe.kmap.pkmap import Pkmap
    from kvmtools.observe.observed import Observed
    from kvmtools.observe.pages.memmap import MemMap

_USED = columns(">slot virtual >count >users pte >pfn page zone")
_LOCAL = columns(">cpu >index virtual pte >pfn")


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
    with attached(options) as session:
        observed = session.observe(processes=False)
        said = consistency(session, form)
    pkmap = observed.pkmap
    entries = paging_form(pae=observed.kernel.pae)
    used = list(_used(pkmap, observed.memmap, entries)) if pkmap else []
    local = list(_local(observed, entries))
    if form == "json":
        emit_json("pkmap", pkmap=_json(pkmap, used) if pkmap else None, kmap_local=local, **said)
    elif pkmap is None:
        emit("this kernel has no pkmap: it was built without CONFIG_HIGHMEM")
    else:
        emit(_text(pkmap, used))
        if local:
            emit("\nkmap_local_page():\n" + table(_LOCAL, (list(entry.values()) for entry in local)))


def _used(pkmap: Pkmap, memmap: MemMap, entries: Form) -> Iterator[dict[str, Any]]:
    """Slots that are not empty, in order."""
    for slot, (count, pte) in enumerate(zip(pkmap.counts.tolist(), pkmap.ptes.tolist(), strict=True)):
        if not count and not pte:
            continue
        pfn = (pte & entries.level(1).address) >> PAGE_SHIFT if pte & PRESENT else None
        page = memmap.page(pfn) if pfn is not None and pfn < memmap.length else None
        yield {
            "slot": slot,
            "virtual": None if pkmap.base is None else hexadecimal(pkmap.base + (slot << PAGE_SHIFT)),
            "count": count,
            "users": max(0, count - 1),
            "pte": hexadecimal(pte, 2 * entries.entry_size),
            "pfn": pfn,
            "page": hexadecimal(page["page"]) if page else None,
            "zone": page["zone"] if page else None,
        }


def _local(observed: Observed, entries: Form) -> Iterator[dict[str, Any]]:
    """Fixmap slots that ``kmap_local_page()`` fills now."""
    for per_cpu in observed.kmap_local:
        for index, (virtual, pte) in enumerate(
            zip(per_cpu.addresses.tolist(), per_cpu.ptes.tolist(), strict=True)
        ):
            if pte & PRESENT:
                yield {
                    "cpu": per_cpu.cpu,
                    "index": index,
                    "virtual": hexadecimal(virtual),
                    "pte": hexadecimal(pte, 2 * entries.entry_size),
                    "pfn": (pte & entries.level(1).address) >> PAGE_SHIFT,
                }


def _json(pkmap: Pkmap, used: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "base": hexadecimal(pkmap.base),
        "slots": len(pkmap.counts),
        "cursor": pkmap.cursor,
        "page_table_physical": hexadecimal(pkmap.page_table_physical, 9),
        "waiters": pkmap.waiters,
        "hash_entries": sum(len(bucket.entries) for bucket in pkmap.buckets),
        "used": used,
    }


def _text(pkmap: Pkmap, used: list[dict[str, Any]]) -> str:
    counts, ptes = pkmap.counts.tolist(), pkmap.ptes.tolist()
    marks = [slot_mark(count, bool(pte & PRESENT)) for count, pte in zip(counts, ptes, strict=True)]
    states = Counter("free" if not count else "unused" if count == 1 else "in use" for count in counts)
    base = "?" if pkmap.base is None else f"{pkmap.base:08x}"
    summary = ", ".join(f"{states[name]} {name}" for name in ("free", "unused", "in use"))
    lines = [
        paint(f"pkmap at {base}: {len(counts)} slots, {summary}; cursor {pkmap.cursor}", bold=True),
        *slots_picture(marks, pkmap.base, pkmap.cursor),
        paint(LEGEND, dim=True),
    ]
    if used:
        names = ("slot", "virtual", "count", "users", "pte", "pfn", "page", "zone")
        lines += ["", table(_USED, ([_cell(row[name]) for name in names] for row in used))]
    return "\n".join(lines)


def _cell(value: Any) -> object:
    return "-" if value is None else value

"""``kvmtools memmap``: what the pages are doing, or one ``struct page`` in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.session import Session, attached
from kvmtools.cli.words import words
from kvmtools.errors import UsageError
from kvmtools.records import PAGE_SIZE
from kvmtools.show.addresses import page_frame
from kvmtools.show.pages import page_json, page_lines
from kvmtools.show.tables import columns, hexadecimal, size, table

if TYPE_CHECKING:
    from kvmtools.observe.pages.memmap import MemMap


@click.command()
@click.argument("pages", metavar="[PAGE]...", nargs=-1)
@target_options
@format_option
def command(options: TargetOptions, pages: tuple[str, ...], form: str) -> None:
    """Count the pages by zone and state, or show single ones in full.

    A PAGE is a pfn (1234 or 0x4d2), phys:0x4d2000, or the address of a struct page (0xf5a20000, f5a20000);
    - reads them from stdin.  States: free (buddy system), per-cpu (free on a CPU's list), reserved, slab,
    table (page tables of processes), anonymous, cache (files and shared memory), other (in use otherwise).

    \b
    kvmtools memmap -g pae
    kvmtools memmap -g pae 0x1473 phys:0x1473000
    kvmtools memmap -c core -s vmlinux --format json 0xf5a20000
    """
    with attached(options) as session:
        if pages:
            shown = _pages(session, list(words(pages)))
        else:
            observed = session.observe(processes=False)
            summary = _summary(observed.memmap, [zone.pcp_pages for zone in observed.zones])
        said = consistency(session, form)
    if pages and form == "json":
        emit_json("memmap", pages=[page_json(page) for page in shown], **said)
    elif pages:
        emit("\n\n".join("\n".join(page_lines(page)) for page in shown))
    elif form == "json":
        emit_json("memmap", **summary, **said)
    else:
        emit(_summary_text(summary))


def _pages(session: Session, texts: list[str]) -> list[dict[str, Any]]:
    from kvmtools.observe.pages.memmap import page_at, page_pfn
    from kvmtools.observe.paging.translate import is_ram

    kernel = session.kernel

    def read(text: str) -> dict[str, Any]:
        try:
            return page_at(kernel, page_frame(text, kernel.page_offset, lambda at: page_pfn(kernel, at)))
        except IndexError as error:
            hint = ""
            if text.startswith("0x") and is_ram(kernel.memory, int(text, 16)):
                hint = f"the page at that physical address is phys:{text}"
            raise UsageError(f"'{text}' names no page: {error.args[0]}", hint=hint) from error

    return session.held(lambda: [read(text) for text in texts])


def _summary(memmap: MemMap, per_cpu: list[Any]) -> dict[str, Any]:
    import numpy as np

    from kvmtools.observe.pages.page_states import STATES, count_states, page_states

    counts = count_states(memmap, page_states(memmap, np.concatenate(per_cpu))).tolist()
    return {
        "mem_map": hexadecimal(memmap.base),
        "page_struct_bytes": memmap.page_size,
        "page_count": int(np.count_nonzero(memmap.valid)),
        "zones": [
            {"zone": name, "page_count": sum(row), "states": dict(zip(STATES, row, strict=True))}
            for name, row in zip(memmap.zone_names, counts, strict=True)
        ],
    }


def _summary_text(summary: dict[str, Any]) -> str:
    zones = summary["zones"]
    states = list(zones[0]["states"])
    rows: list[list[object]] = [
        [
            zone["zone"],
            *(f"{zone['states'][state]:,}" for state in states),
            f"{zone['page_count']:,}",
            size(zone["page_count"] * PAGE_SIZE),
        ]
        for zone in zones
    ]
    total = {state: sum(zone["states"][state] for zone in zones) for state in states}
    rows.append(["total", *(f"{pages:,}" for pages in total.values()), f"{summary['page_count']:,}", ""])
    rows.append(
        [
            "",
            *(size(pages * PAGE_SIZE) for pages in total.values()),
            size(summary["page_count"] * PAGE_SIZE),
            "",
        ]
    )
    head = (
        f"mem_map at {summary['mem_map']}: {summary['page_count']:,} struct page "
        f"of {summary['page_struct_bytes']} bytes"
    )
    titles = " ".join(("zone", *(f">{state}" for state in states), ">pages", ">size"))
    return f"{head}\n{table(columns(titles), rows)}"

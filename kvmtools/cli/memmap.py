"""``kvmtools memmap``: what the pages are doing, or one ``struct page`` in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.session import Session, attached
from kvmtools.cli.words import words
from kvmtools.errors import UsageError
from kvmtools.records import PAGE_SIZE
from kvmtools.show.addresses import page_frame
from kvmtools.show.pages import page_json, page_lines
from kvmtools.show.tables import columns, hexadecimal, size, table

if TYPE_CHECKING:
    from kvmtools.observe.pages.memmap import MemMap, Piece

SHOWN, REFUSED = 0, 2


@click.command()
@click.argument("pages", metavar="[PAGE]...", nargs=-1)
@target_options
@format_option
def command(options: TargetOptions, pages: tuple[str, ...], form: str) -> int:
    """Count the pages by zone and state, or show single ones in full.

    A PAGE is a pfn (1234 or 0x4d2), phys:0x4d2000, or the address of a struct page (0xf5a20000, f5a20000);
    - reads them from stdin.  States: free (buddy system), per-cpu (free on a CPU's list), reserved, slab,
    table (page tables of processes), anonymous, cache (files and shared memory), other (in use otherwise).
    Exit code 2: a word names no page (stderr says which, the others are shown).

    \b
    kvmtools memmap -g pae
    kvmtools memmap -g pae 0x1473 phys:0x1473000
    kvmtools memmap -c core -s vmlinux --format json 0xf5a20000
    """
    with attached(options) as session:
        if pages:
            shown, refusals = _pages(session, list(words(pages)))
        else:
            observed = session.observe(processes=False)
            summary = _summary(observed.memmap, [zone.pcp_pages for zone in observed.zones])
        said = consistency(session, form)
    if not pages:
        if form == "json":
            emit_json("memmap", **summary, **said)
        else:
            emit(_summary_text(summary))
        return SHOWN
    for refusal in refusals:
        note(refusal)
    if form == "json":
        emit_json("memmap", pages=[page_json(page) for page in shown], **said)
    elif shown:
        emit("\n\n".join("\n".join(page_lines(page)) for page in shown))
    return REFUSED if refusals else SHOWN


def _pages(session: Session, texts: list[str]) -> tuple[list[dict[str, Any]], list[UsageError]]:
    """The pages that the words name, and why the other words name none."""
    from kvmtools.observe.pages.memmap import page_at, page_pfn
    from kvmtools.observe.paging.translate import is_ram

    kernel = session.kernel

    def read(text: str) -> dict[str, Any] | UsageError:
        try:
            return page_at(kernel, page_frame(text, kernel.page_offset, lambda at: page_pfn(kernel, at)))
        except UsageError as error:
            return error
        except IndexError as error:
            hint = ""
            if text.startswith("0x") and is_ram(kernel.memory, int(text, 16)):
                hint = f"the page at that physical address is phys:{text}"
            return UsageError(f"'{text}' names no page: {error.args[0]}", hint=hint)

    answers = session.held(lambda: [read(text) for text in texts])
    return (
        [answer for answer in answers if not isinstance(answer, UsageError)],
        [answer for answer in answers if isinstance(answer, UsageError)],
    )


def _summary(memmap: MemMap, per_cpu: list[Any]) -> dict[str, Any]:
    import numpy as np

    from kvmtools.observe.pages.page_states import STATES, count_states, page_states

    counts = count_states(memmap, page_states(memmap, np.concatenate(per_cpu))).tolist()
    return {
        "pieces": [_piece_json(piece) for piece in memmap.pieces],
        "page_struct_bytes": memmap.page_size,
        "page_count": int(np.count_nonzero(memmap.valid)),
        "zones": [
            {"zone": name, "page_count": sum(row), "states": dict(zip(STATES, row, strict=True))}
            for name, row in zip(memmap.zone_names, counts, strict=True)
        ],
    }


def _piece_json(piece: Piece) -> dict[str, Any]:
    """One array of ``struct page``: FLATMEM has one, SPARSEMEM one for every section."""
    return {
        "start_pfn": piece.start_pfn,
        "end_pfn": piece.start_pfn + piece.pages,
        "struct_pages": hexadecimal(piece.virtual),
    }


def heading(summary: dict[str, Any]) -> str:
    """Where the arrays lie; sections whose arrays follow one another are one."""
    struct_pages = f"{summary['page_count']:,} struct page of {summary['page_struct_bytes']} bytes"
    runs: list[tuple[int, int, int]] = []
    for piece in summary["pieces"]:
        start, end, address = piece["start_pfn"], piece["end_pfn"], int(piece["struct_pages"], 16)
        if runs:
            first, behind, base = runs[-1]
            if behind == start and base + (start - first) * summary["page_struct_bytes"] == address:
                runs[-1] = (first, end, base)
                continue
        runs.append((start, end, address))
    if len(runs) == 1 and runs[0][0] == 0:
        return f"mem_map at {runs[0][2]:#010x}: {struct_pages}"
    rows = ([f"{start:#x}-{end:#x}", f"{address:#010x}"] for start, end, address in runs)
    pieces = "1 piece" if len(runs) == 1 else f"{len(runs)} pieces"
    return f"mem_map in {pieces}: {struct_pages}\n{table(columns('>pfns >at'), rows)}\n"


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
    titles = " ".join(("zone", *(f">{state}" for state in states), ">pages", ">size"))
    return f"{heading(summary)}\n{table(columns(titles), rows)}"

"""``kvmtools memmap``: what the pages are doing, or one ``struct page`` in full."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.words import words
from kvmtools.errors import UsageError
from kvmtools.show.gaps import Gaps
from kvmtools.show.page_use import counted, page_use_text
from kvmtools.show.pages import page_json, page_lines
from kvmtools.show.tables import hexadecimal

if TYPE_CHECKING:
    from kvmtools.api.page_use import PageUse


@click.command()
@click.argument("pages", metavar="[PAGE]...", nargs=-1)
@target_options
@format_option
def command(options: TargetOptions, pages: tuple[str, ...], form: str) -> int:
    """Count the pages by zone and state, or show single ones in full.

    A PAGE is a pfn (1234 or 0x4d2), a physical address in hex after phys: (phys:0x4d2000), or the address of a struct
    page (0xf5a20000, f5a20000); - reads them from stdin.  States: free (buddy system), per-cpu (free on a CPU's list),
    reserved, slab, table (page tables of processes), anonymous, cache (files and shared memory), other (in use
    otherwise).
    Exit code 2: a word names no page (stderr says which, the others are shown).

    \b
    kvmtools memmap -g pae
    kvmtools memmap -g pae 0x1473 phys:0x1473000
    kvmtools memmap -c core -s vmlinux --format json 0xf5a20000
    """
    refused: list[UsageError] = []
    with options.open() as kernel:
        if pages:
            shown = kernel.pages(list(words(pages)), refuse=refused.append)
        else:
            use = kernel.memmap()
        said = consistency(kernel, form)
    for error in refused:
        note(error)
    if not pages:
        if form == "json":
            emit_json("memmap", **_json(use), **said)
        else:
            emit(page_use_text(use))
    elif form == "json":
        emit_json("memmap", pages=[page_json(page) for page in shown], **said)
    elif shown:
        emit("\n\n".join("\n".join(page_lines(page)) for page in shown))
    return UsageError.exit_code if refused else 0


def _json(use: PageUse) -> dict[str, Any]:
    gaps = Gaps()
    zones = gaps.read(partial(_zones, use, gaps))
    return {
        "pieces": [
            {
                "start_pfn": piece.start_pfn,
                "end_pfn": piece.start_pfn + piece.pages,
                "struct_pages": hexadecimal(piece.virtual),
            }
            for piece in use.memmap.pieces
        ],
        "page_struct_bytes": use.memmap.page_size,
        "page_count": use.page_count,
        "states": counted(use.total, use.untold, gaps),
        "zones": zones,
        **gaps.document(),
    }


def _zones(use: PageUse, gaps: Gaps) -> list[dict[str, Any]]:
    return [
        {
            "node": place.node,
            "zone": place.name,
            "page_count": sum(states.values()),
            "states": counted(states, use.untold, gaps),
        }
        for place, states in zip(use.places, use.zones.values(), strict=True)
    ]

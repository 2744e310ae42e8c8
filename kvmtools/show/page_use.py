"""What the pages are doing, in text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvmtools.records import PAGE_SIZE
from kvmtools.show.style import count
from kvmtools.show.tables import columns, size, table


def page_use_text(use: Any) -> str:
    """A line for each zone, and their sums.

    :param use: :class:`kvmtools.PageUse`
    """
    zones, pages = use.zones, use.page_count
    states = use.names
    rows: list[list[object]] = []
    for zone, counts in zones.items():
        total = sum(counts.values())
        rows.append(
            [zone, *(f"{counts[state]:,}" for state in states), f"{total:,}", size(total * PAGE_SIZE)]
        )
    sums = [sum(counts[state] for counts in zones.values()) for state in states]
    rows.append(["total", *(f"{number:,}" for number in sums), f"{pages:,}", ""])
    rows.append(["", *(size(number * PAGE_SIZE) for number in sums), size(pages * PAGE_SIZE), ""])
    titles = " ".join(("zone", *(f">{state}" for state in states), ">pages", ">size"))
    return f"{heading(use.memmap.pieces, pages, use.memmap.page_size)}\n{table(columns(titles), rows)}"


def heading(pieces: Sequence[Any], pages: int, page_size: int) -> str:
    """Where the arrays of ``struct page`` lie; sections whose arrays follow one another are one.

    :param pieces: FLATMEM has one, SPARSEMEM one for every section
    :param page_size: ``sizeof(struct page)``, bytes
    """
    runs: list[tuple[int, int, int]] = []
    for piece in pieces:
        start, end = piece.start_pfn, piece.start_pfn + piece.pages
        if runs:
            first, behind, base = runs[-1]
            if behind == start and base + (start - first) * page_size == piece.virtual:
                runs[-1] = (first, end, base)
                continue
        runs.append((start, end, piece.virtual))
    struct_pages = f"{pages:,} struct page of {page_size} bytes"
    if len(runs) == 1 and runs[0][0] == 0:
        return f"mem_map at {runs[0][2]:#010x}: {struct_pages}"
    rows = ([f"{start:#x}-{end:#x}", f"{address:#010x}"] for start, end, address in runs)
    return f"mem_map in {count(len(runs), 'piece')}: {struct_pages}\n{table(columns('>pfns >at'), rows)}\n"

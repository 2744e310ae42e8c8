"""What the pages are doing, in text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from kvmtools.errors import Absent
from kvmtools.records import PAGE_SIZE
from kvmtools.show.gaps import UNKNOWN, Gaps
from kvmtools.show.style import count
from kvmtools.show.tables import columns, size, table


def page_use_text(use: Any) -> str:
    """A line for each zone, and their sums; of what this kernel lacks, why.

    :param use: :class:`kvmtools.PageUse`
    """
    gaps, pages = Gaps(), use.page_count
    zones = gaps.get(use, "zones") or {}
    total = counted(use.total, use.untold, gaps)

    def cells(counts: Mapping[str, int | None], spell: Callable[[int], str]) -> Iterator[str]:
        return (UNKNOWN if count is None else spell(count) for count in counts.values())

    rows: list[list[object]] = []
    for zone, counts in zones.items():
        number = sum(counts.values())
        states = counted(counts, use.untold, gaps)
        rows.append([zone, *cells(states, "{:,}".format), f"{number:,}", size(number * PAGE_SIZE)])
    rows.append(["total", *cells(total, "{:,}".format), f"{pages:,}", ""])
    rows.append(["", *cells(total, lambda count: size(count * PAGE_SIZE)), size(pages * PAGE_SIZE), ""])
    titles = " ".join(("zone", *(f">{state}" for state in total), ">pages", ">size"))
    shown = f"{heading(use.memmap.pieces, pages, use.memmap.page_size)}\n{table(columns(titles), rows)}"
    return "\n\n".join([shown, *gaps.paragraph()])


def counted(counts: Mapping[str, int], untold: Mapping[str, Absent], gaps: Gaps) -> dict[str, int | None]:
    """Pages by state; ``None`` for a state of which this kernel does not say which pages are in it."""

    def number(state: str) -> int:
        if state in untold:
            raise untold[state]
        return counts[state]

    return {state: gaps.read(partial(number, state)) for state in counts}


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

"""What a page table maps, in text: a line for a run of pages, or for each entry."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from kvmtools.show.tables import columns, permissions, size, table

_RUNS = columns("virtual_range >size >pages physical access flags region")
_PAGES = columns("virtual >page physical >table [index] entry access flags region")
# Of a million pages, the few sizes and permissions that there are.
_size, _permissions = cache(size), cache(permissions)


def run_table(runs: Iterable[Any]) -> str:
    """:class:`kvmtools.MappedRun` by line."""
    return table(_RUNS, map(_run_cells, runs))


def page_table(pages: Iterable[Any]) -> str:
    """:class:`kvmtools.MappedPage` by line."""
    return table(_PAGES, map(_page_cells, pages))


def totals(leaves: int, large: int, mapped: int) -> str:
    """How much is mapped: leaves, those of them that are large, and bytes."""
    if not leaves:
        return "nothing is mapped here"
    return f"{leaves:,} {'leaf' if leaves == 1 else 'leaves'}, {large:,} of them large, map {size(mapped)}"


def _run_cells(run: Any) -> tuple[object, ...]:
    return (
        f"{run.virtual:08x}-{run.end - 1:08x}",
        size(run.end - run.virtual),
        f"{run.pages} × {size(run.page_size)}",
        f"{run.physical:#011x}" if run.linear else "scattered",
        permissions(run.writable, run.executable, run.user),
        run.flags,
        run.region,
    )


def _page_cells(page: Any) -> tuple[object, ...]:
    return (
        f"{page.virtual:08x}",
        _size(page.size),
        f"{page.physical:#011x}",
        f"{page.table:#011x}",
        f"[{page.index:>4}]",
        f"{page.entry:#0{2 * page.entry_size + 2}x}",
        _permissions(page.writable, page.executable, page.user),
        page.flags,
        page.region,
    )

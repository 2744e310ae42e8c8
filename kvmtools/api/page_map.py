"""``mem_map`` made small: millions of pages as some thousand cells, each with what its pages are doing."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from kvmtools.errors import Unobserved
from kvmtools.records import PAGE_SHIFT
from kvmtools.survey import HOLE, PageMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kvmtools.api.page_use import PageUse
    from kvmtools.records import Configuration

CELLS = 1 << 14
"""At most so many: a picture of 128 x 128."""
_RAM = 1
"""``E820_TYPE_RAM``, arch/x86/include/asm/e820/types.h."""


def page_map(use: PageUse, configuration: Configuration) -> PageMap:
    """The map; a pfn that has no ``struct page``, or is reserved because it is no RAM, is a hole.

    Of a kernel that does not say what is RAM, what is reserved is just that.
    """
    states = (*use.names, HOLE)
    found = use.states.astype(np.int64)
    reserved = found == states.index("reserved")
    found[~use.memmap.valid | (reserved & ~_is_ram(configuration, len(found)))] = states.index(HOLE)
    cell_pages = 1
    while -(-len(found) // cell_pages) > CELLS:
        cell_pages *= 2
    counts = np.bincount(
        np.arange(len(found)) // cell_pages * len(states) + found,
        minlength=-(-len(found) // cell_pages) * len(states),
    ).reshape(-1, len(states))
    return PageMap(len(found), cell_pages, states, _runs(counts))


def _is_ram(configuration: Configuration, pages: int) -> NDArray[np.bool_]:
    """By the firmware's map: pages that lie whole in one of its ranges."""
    try:
        entries = configuration.e820
    except Unobserved:
        return np.ones(pages, np.bool_)
    ram = np.zeros(pages, np.bool_)
    for entry in entries:
        if entry.type == _RAM:
            first = -(-entry.start >> PAGE_SHIFT)
            ram[first : (entry.start + entry.size) >> PAGE_SHIFT] = True
    return ram


def _runs(counts: NDArray[np.int64]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    if not len(counts):
        return ()
    starts = np.flatnonzero(np.any(counts[1:] != counts[:-1], axis=1)) + 1
    edges = [0, *starts.tolist(), len(counts)]
    return tuple((end - start, tuple(counts[start].tolist())) for start, end in pairwise(edges))

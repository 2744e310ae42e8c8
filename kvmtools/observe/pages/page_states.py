"""What every page is doing, one state each: the summary of ``mem_map`` that a person asks for first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.pages.memmap import MAPPING_ANON, MemMap

STATES = ("free", "per-cpu", "reserved", "slab", "table", "anonymous", "cache", "other")
"""``free``: in the buddy system; ``per-cpu``: free on a CPU's list; ``cache``: of files, shared memory."""


def page_states(memmap: MemMap, per_cpu: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Index into :data:`STATES` of every pfn; a tail page does what its compound page's head does.

    :param per_cpu: pfns on the CPUs' lists (:attr:`kvmtools.observe.zones.zones.Zone.pcp_pages` of all zones)
    """
    mapping = memmap.mapping
    anonymous = (mapping & MAPPING_ANON) != 0
    # Slab and page tables use the words of page->mapping for themselves, so they come first.
    claims = {
        "reserved": memmap.has_flag("PG_reserved"),
        "slab": memmap.has_flag("PG_slab") | memmap.types.of(memmap.page_type, "slab"),
        "table": memmap.types.of(memmap.page_type, "table"),
        "anonymous": anonymous,
        "cache": (mapping != 0) & ~anonymous & (memmap.refcount > 0),
    }
    found = np.full(memmap.length, STATES.index("other"), np.uint8)
    for name, pages in reversed(claims.items()):
        found[pages] = STATES.index(name)
    tails = np.flatnonzero(memmap.tail & (memmap.refcount == 0))
    heads = memmap.head[tails]
    found[tails[heads >= 0]] = found[heads[heads >= 0]]
    # A list that was overwritten may lead to pages behind the last one.
    found[per_cpu[per_cpu < memmap.length]] = STATES.index("per-cpu")
    found[memmap.in_buddy_block] = STATES.index("free")
    return found


def count_states(memmap: MemMap, states: NDArray[np.uint8], node: int = 0) -> NDArray[np.int64]:
    """Pages of every zone (as in ``flags``) in every state, shape ``(zones, states)``; pfns without a page aside.

    :param node: the one whose pages are counted; a kernel for one node has no other
    """
    zones = len(memmap.zone_names)
    counted = memmap.valid if memmap.node is None else memmap.valid & (memmap.node == node)
    both = (memmap.zone.astype(np.int64) * len(STATES) + states)[counted]
    counts = np.bincount(both, minlength=zones * len(STATES))[: zones * len(STATES)]
    return counts.reshape(zones, len(STATES))

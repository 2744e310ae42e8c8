"""What every page is doing, one state each: the summary of ``mem_map`` that a person asks for first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import Absent, Unobserved
from kvmtools.observe.pages.memmap import MAPPING_ANON, MemMap

STATES = ("free", "per-cpu", "reserved", "slab", "table", "anonymous", "cache", "other")
"""``free``: in the buddy system; ``per-cpu``: free on a CPU's list; ``cache``: of files, shared memory."""

Pages = NDArray[np.bool_]

# Whose pages pass for others if nobody can tell them: a free page has no mapping and no flags, the words of slab and of
# page tables may look like a mapping.
_PASS_FOR = {
    "free": ("other",),
    "per-cpu": ("other",),
    "reserved": ("other",),
    "slab": ("anonymous", "cache", "other"),
    "table": ("anonymous", "cache", "other"),
    "anonymous": ("cache", "other"),
    "cache": ("other",),
}


def page_states(
    memmap: MemMap, per_cpu: NDArray[np.int64] | Unobserved
) -> tuple[NDArray[np.uint8], dict[str, Absent]]:
    """Index into :data:`STATES` of every pfn; a tail page does what its compound page's head does.

    And the states of which this kernel does not say which pages are in them, each with what it lacks.

    :param per_cpu: pfns on the CPUs' lists (:attr:`kvmtools.observe.zones.zones.Zone.pcp_pages` of all zones), or why
        they are not known
    """
    found = np.full(memmap.length, STATES.index("other"), np.uint8)
    untold: dict[str, Absent] = {}

    def put(states: tuple[str, ...], put_each: Callable[[], None]) -> None:
        try:
            put_each()
        except Absent as reason:
            for state in states:
                untold.update(dict.fromkeys((state, *_PASS_FOR[state]), reason))

    # From the weakest claim to the strongest.
    claims = _claims(memmap)
    for state, pages in reversed(claims.items()):
        put((state,), partial(_put, found, state, pages))
    put(tuple(claims), lambda: _put_tails(memmap, found))
    put(("per-cpu",), lambda: _put(found, "per-cpu", lambda: _within(memmap, per_cpu)))
    put(("free",), lambda: _put(found, "free", lambda: memmap.in_buddy_block))
    return found, untold


def _claims(memmap: MemMap) -> dict[str, Callable[[], Pages]]:
    """Slab and page tables use the words of page->mapping for themselves, so they come first."""

    def anonymous() -> Pages:
        pages: Pages = (memmap.mapping & MAPPING_ANON) != 0
        return pages

    return {
        "reserved": lambda: memmap.has_flag("PG_reserved"),
        "slab": lambda: memmap.has_flag("PG_slab") | memmap.types.of(memmap.page_type, "slab"),
        "table": lambda: memmap.types.of(memmap.page_type, "table"),
        "anonymous": anonymous,
        "cache": lambda: (memmap.mapping != 0) & ~anonymous() & (memmap.refcount > 0),
    }


def _put(found: NDArray[np.uint8], state: str, which: Callable[[], Pages | NDArray[np.int64]]) -> None:
    found[which()] = STATES.index(state)


def _put_tails(memmap: MemMap, found: NDArray[np.uint8]) -> None:
    tails = np.flatnonzero(memmap.tail & (memmap.refcount == 0))
    heads = memmap.head[tails]
    found[tails[heads >= 0]] = found[heads[heads >= 0]]


def _within(memmap: MemMap, per_cpu: NDArray[np.int64] | Unobserved) -> NDArray[np.int64]:
    """A list that was overwritten may lead to pages behind the last one."""
    if isinstance(per_cpu, Unobserved):
        raise per_cpu
    return per_cpu[per_cpu < memmap.length]


def count_states(memmap: MemMap, states: NDArray[np.uint8], node: int = 0) -> NDArray[np.int64]:
    """Pages of every zone (as in ``flags``) in every state, shape ``(zones, states)``; pfns without a page aside.

    :param node: the one whose pages are counted; a kernel for one node has no other
    """
    zones = len(memmap.zone_names)
    counted = memmap.valid if memmap.node is None else memmap.valid & (memmap.node == node)
    both = (memmap.zone.astype(np.int64) * len(STATES) + states)[counted]
    counts = np.bincount(both, minlength=zones * len(STATES))[: zones * len(STATES)]
    return counts.reshape(zones, len(STATES))

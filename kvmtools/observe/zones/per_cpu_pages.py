"""Free pages that a CPU keeps to itself: the per-CPU pagesets of a zone.

Since 5.14 a zone has ``per_cpu_pageset`` (``struct per_cpu_pages``, lists by order and migratetype); before, its
``pageset`` is a ``struct per_cpu_pageset`` around one, with lists of single pages by migratetype.
Source: include/linux/mmzone.h, ``order_to_pindex`` in mm/page_alloc.c (6.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.broken import Broken, noted
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.partial import Partial, known
from kvmtools.observe.spinlock import taken
from kvmtools.observe.structure import Structure
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.observe.zones.free_lists import (
    list_heads,
    migratetype_names,
    number_of_orders,
    pcp_migratetypes,
)
from kvmtools.observe.zones.list_walk import ListHead, PageList

_PAGES = "struct per_cpu_pages"
# include/linux/mmzone.h: PAGE_ALLOC_COSTLY_ORDER, and the orders up to it have lists.
_ORDERS = 4


@dataclass(frozen=True, eq=False)
class PcpList:
    """One list of free blocks; ``migratetype`` is ``None`` where a list holds several."""

    order: int
    migratetype: str | None
    pages: NDArray[np.int64]
    broken: str | None


@dataclass(frozen=True, eq=False)
class PerCpuPages(Partial):
    """What one CPU keeps of one zone; ``count`` is the kernel's own count, in pages of 4 KiB."""

    cpu: int
    count: int
    high: int
    batch: int
    locked: bool | None
    """Whether the lock is taken; ``None`` where there is none (before 5.19, and on one CPU)."""
    lists: tuple[PcpList, ...]

    @property
    def pages(self) -> int:
        """Pages that the lists hold, in pages of 4 KiB."""
        return sum(len(each.pages) << each.order for each in self.lists)


@dataclass(frozen=True)
class Pageset:
    """One ``struct per_cpu_pages``, found and read, its lists not yet followed."""

    cpu: int
    record: Structure
    heads: tuple[ListHead, ...]


def pagesets(
    kernel: Kernel, title: str, zone: Structure, cpus: tuple[int, ...], broken: list[Broken] | None = None
) -> tuple[Pageset, ...]:
    """The pagesets of the zone that is called ``title``; none if the zone has no pages.

    :param broken: takes those that cannot be reached
    """
    member = kernel.vmlinux.which_member(zone.type_name, "per_cpu_pageset", "pageset")
    pointer = zone.unsigned(member)
    inside = 0 if member == "per_cpu_pageset" else kernel.vmlinux.offset("struct per_cpu_pageset", "pcp")
    count = kernel.vmlinux.array_length(_PAGES, "lists")
    found = []
    for cpu in cpus if zone.unsigned("present_pages") else ():
        with noted(broken, f"{title} cpu {cpu}", "per_cpu_pageset"):
            record = Structure(kernel, _PAGES, kernel.per_cpu(pointer, cpu) + inside)
            found.append(Pageset(cpu, record, tuple(list_heads(record, "lists", count))))
    return tuple(found)


def per_cpu_pages(pageset: Pageset, walked: list[PageList]) -> PerCpuPages:
    """The pageset with its lists; ``walked`` are those of its heads, in order."""
    record, kinds = pageset.record, list_kinds(pageset.record.vmlinux)
    lists = tuple(PcpList(*kind, each.pages, each.broken) for kind, each in zip(kinds, walked, strict=True))

    def told(member: str) -> int:
        return known(lambda: record.signed(member), _PAGES)

    return PerCpuPages(
        cpu=pageset.cpu,
        count=told("count"),
        high=known(lambda: record.signed(record.vmlinux.which_member(_PAGES, "high", "high_max")), _PAGES),
        batch=told("batch"),
        locked=known(lambda: lock_taken(record, "lock"), _PAGES),
        lists=lists,
    )


def lock_taken(owner: Structure, member: str) -> bool | None:
    """Whether a ``spinlock_t`` member is taken; ``None`` if there is none, or it is empty (one CPU)."""
    return taken(owner.vmlinux, owner.raw(member)) if owner.has(member) else None


def list_kinds(vmlinux: Vmlinux) -> list[tuple[int, str | None]]:
    """Order and migratetype of each list, by ``order_to_pindex``."""
    names, types = migratetype_names(vmlinux), pcp_migratetypes(vmlinux)
    count = vmlinux.array_length(_PAGES, "lists")
    low = [(order, names[kind]) for order in range(_ORDERS) for kind in range(types)]
    kinds: list[tuple[int, str | None]] = [*low[:count]]
    # With transparent huge pages one more list (6.10: two) for blocks of the huge page's order.
    large = count - len(kinds)
    kinds += [(_large_order(vmlinux), None if large == 1 or at == 0 else "MOVABLE") for at in range(large)]
    return kinds


def _large_order(vmlinux: Vmlinux) -> int:
    """``pageblock_order``, or ``HPAGE_PMD_ORDER`` where pageblocks are of that size.

    Without hugetlbfs (whose sizes are ``hstates``) pageblocks are as large as the largest block, until 6.12 made them
    a huge page's size with transparent huge pages as well: include/linux/pageblock-flags.h.
    """
    huge_page = vmlinux.architecture.huge_page_order
    largest = number_of_orders(vmlinux) - 1
    return (
        min(huge_page, largest)
        if vmlinux.has_symbol("hstates") or vmlinux.has_constant("PGTY_buddy")
        else largest
    )

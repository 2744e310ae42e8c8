"""Free pages that a CPU keeps to itself: the per-CPU pagesets of a zone.

Since 5.14 a zone has ``per_cpu_pageset`` (``struct per_cpu_pages``); before, its ``pageset`` is a
``struct per_cpu_pageset`` around one.  What its n-th list is for, nobody stores: the model says it to whoever sees both
(:func:`kvmtools.compare.list_orders.with_orders`).  Source: include/linux/mmzone.h (6.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import UsageError
from kvmtools.observe.broken import Broken, noted
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.partial import Partial, known
from kvmtools.observe.spinlock import taken
from kvmtools.observe.structure import Structure
from kvmtools.observe.zones.free_lists import list_heads
from kvmtools.observe.zones.list_walk import ListHead, PageList

_PAGES = "struct per_cpu_pages"


@dataclass(frozen=True, eq=False)
class PcpList(Partial):
    """One list of free blocks: the pfns of their heads, and what is wrong with the list, if anything."""

    pages: NDArray[np.int64]
    broken: str | None
    order: int | None = None
    """Of its blocks, by the model's word; ``None`` if it was not told."""

    @property
    def block_pages(self) -> int:
        """How many pages of 4 KiB each of its blocks has.

        :raises UsageError: if it was not told
        """
        if self.order is None:
            raise UsageError(
                "which order a CPU's list is for, only the model says", hint="OpenKernel.zones() asks it"
            )
        return 1 << self.order


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
    """In the order of ``per_cpu_pages.lists[]``."""

    @property
    def pages(self) -> int:
        """Pages that the lists hold, in pages of 4 KiB."""
        return sum(len(each.pages) * each.block_pages for each in self.lists)


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
    record = pageset.record

    def told(member: str) -> int:
        return known(lambda: record.signed(member), _PAGES)

    return PerCpuPages(
        cpu=pageset.cpu,
        count=told("count"),
        high=known(lambda: record.signed(record.vmlinux.which_member(_PAGES, "high", "high_max")), _PAGES),
        batch=told("batch"),
        locked=known(lambda: lock_taken(record, "lock"), _PAGES),
        lists=tuple(PcpList(each.pages, each.broken) for each in walked),
    )


def lock_taken(owner: Structure, member: str) -> bool | None:
    """Whether a ``spinlock_t`` member is taken; ``None`` if there is none, or it is empty (one CPU)."""
    return taken(owner.vmlinux, owner.raw(member)) if owner.has(member) else None

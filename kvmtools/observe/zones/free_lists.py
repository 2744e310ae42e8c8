"""``zone->free_area``: the buddy system's lists, one per order and migratetype.

Source: ``struct free_area``, include/linux/mmzone.h (6.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.structure import Structure
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.observe.zones.list_walk import ListHead, PageList

_MIGRATE = "MIGRATE_"
# Counts and synonyms in enum migratetype, no types of their own (MIGRATE_HIGHATOMIC shares a number with the first).
_NOT_TYPES = {"MIGRATE_PCPTYPES", "MIGRATE_TYPES"}


@dataclass(frozen=True, eq=False)
class FreeList:
    """Heads of the free blocks of one order and migratetype, by pfn, in the list's order."""

    order: int
    migratetype: str
    pages: NDArray[np.int64]
    broken: str | None


@dataclass(frozen=True, eq=False)
class FreeArea:
    """All free blocks of one order in one zone; ``nr_free`` is the kernel's own count of them."""

    order: int
    nr_free: int
    lists: tuple[FreeList, ...]

    @property
    def blocks(self) -> int:
        """How many blocks the lists hold."""
        return sum(len(each.pages) for each in self.lists)


def migratetype_names(vmlinux: Vmlinux) -> tuple[str, ...]:
    """``enum migratetype`` in order, without the prefix: ``("UNMOVABLE", "MOVABLE", "RECLAIMABLE", ...)``."""
    types = vmlinux.enumerators("migratetype")
    named = {value: name.removeprefix(_MIGRATE) for name, value in types.items() if name not in _NOT_TYPES}
    return tuple(named[value] for value in range(types["MIGRATE_TYPES"]))


def list_heads(owner: Structure, member: str, count: int) -> Iterator[ListHead]:
    """The ``count`` consecutive ``struct list_head`` at ``member``."""
    size = owner.vmlinux.sizeof("struct list_head")
    start = owner.vmlinux.offset(owner.type_name, member)
    word = owner.vmlinux.architecture.word
    words = np.frombuffer(owner.data[start : start + count * size], word).reshape(count, -1)
    for index, (following, previous) in enumerate(words.tolist()):
        yield ListHead(owner.address + start + index * size, following, previous)


def free_list_heads(zone: Structure) -> list[ListHead]:
    """Heads of all free lists of a zone, by order, then by migratetype; none of a zone that never had pages."""
    # An empty zone's lists are not even initialised (free_area_init_core, mm/page_alloc.c).
    if not zone.unsigned("initialized"):
        return []
    types = len(migratetype_names(zone.vmlinux))
    return [
        head
        for order in range(number_of_orders(zone.vmlinux))
        for head in list_heads(zone, f"free_area[{order}].free_list", types)
    ]


def number_of_orders(vmlinux: Vmlinux) -> int:
    """Orders of the buddy system (``MAX_ORDER`` up to 6.3, ``NR_PAGE_ORDERS`` since)."""
    return vmlinux.array_length("struct zone", "free_area")


def free_areas(zone: Structure, walked: list[PageList]) -> tuple[FreeArea, ...]:
    """The free areas of a zone; ``walked`` are the lists of :func:`free_list_heads`, in that order."""
    names = migratetype_names(zone.vmlinux)
    walked = walked or [PageList(np.empty(0, np.int64), None)] * len(names) * number_of_orders(zone.vmlinux)
    areas = []
    for order in range(number_of_orders(zone.vmlinux)):
        mine = walked[order * len(names) : (order + 1) * len(names)]
        lists = tuple(
            FreeList(order, name, each.pages, each.broken) for name, each in zip(names, mine, strict=True)
        )
        areas.append(FreeArea(order, zone.signed(f"free_area[{order}].nr_free"), lists))
    return tuple(areas)

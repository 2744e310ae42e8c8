"""The zones: where each lies, how much it has, and every free page that it keeps.

Source: ``struct zone`` and ``struct pglist_data``, include/linux/mmzone.h; what is free is computed as
``zone_page_state_snapshot`` does, include/linux/vmstat.h (6.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import Absent, MemoryFault, Unobserved
from kvmtools.observe.broken import Broken, noted
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.nodes import NODE, node_addresses
from kvmtools.observe.pages.memmap import MemMap
from kvmtools.observe.pages.page_flags import zone_names
from kvmtools.observe.partial import Partial, known
from kvmtools.observe.per_cpu import physical_ranges, possible_cpus
from kvmtools.observe.structure import Structure
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.observe.zones.free_lists import FreeArea, free_areas, free_list_heads
from kvmtools.observe.zones.list_walk import ListHead, PageList, walk_page_lists
from kvmtools.observe.zones.per_cpu_pages import (
    Pageset,
    PerCpuPages,
    lock_taken,
    pagesets,
    per_cpu_pages,
)
from kvmtools.records import Range

T = TypeVar("T")

_ZONE = "struct zone"


@dataclass(frozen=True)
class Place:
    """Which zone: of which node, and which of its zones."""

    node: int
    """The node's number."""
    index: int
    name: str
    """As in ``enum zone_type``, without the prefix."""
    nodes: int
    """How many nodes there are; of several, one needs to be named."""

    @property
    def label(self) -> str:
        """For a table: ``NORMAL``, or ``node 1 NORMAL``."""
        return self.name if self.nodes == 1 else f"node {self.node} {self.name}"

    @property
    def title(self) -> str:
        """For a sentence: ``zone NORMAL``, or ``node 1 zone NORMAL``."""
        return f"zone {self.name}" if self.nodes == 1 else f"node {self.node} zone {self.name}"


@dataclass(frozen=True, eq=False)
class Zone(Partial):
    """One zone; all quantities are in pages of 4 KiB."""

    place: Place
    address: int
    """Virtual address of the ``struct zone``."""
    start_pfn: int
    spanned: int
    present: int
    managed: int
    watermarks: dict[str, int]
    """``_watermark`` by name (``min``, ``low``, ``high``, ...), raw: without the boost."""
    watermark_boost: int
    lowmem_reserve: tuple[int, ...]
    vm_stat: dict[str, int]
    """``zone->vm_stat`` by name (``NR_FREE_PAGES``, ...), raw: as /proc/zoneinfo prints it."""
    vm_stat_diff: dict[int, dict[str, int]]
    """What each CPU has counted and not yet handed in."""
    free_area: tuple[FreeArea, ...]
    pcp: tuple[PerCpuPages, ...]
    locked: bool | None
    """Whether ``zone->lock`` is taken; ``None`` on a kernel for one CPU, which has none."""

    @property
    def name(self) -> str:
        """As in ``enum zone_type``, without the prefix."""
        return self.place.name

    @property
    def index(self) -> int:
        """Its number in ``enum zone_type``."""
        return self.place.index

    @property
    def end_pfn(self) -> int:
        """First pfn behind the zone."""
        return self.start_pfn + self.spanned

    @property
    def free_pages(self) -> int:
        """Free pages in the buddy system by the kernel's account, every CPU's share included."""
        shares = (shares["NR_FREE_PAGES"] for shares in self.vm_stat_diff.values() if shares)
        return self.vm_stat["NR_FREE_PAGES"] + sum(shares)

    @property
    def buddy_pages(self) -> int:
        """Free pages on the walked lists of ``free_area``, those of isolated blocks included."""
        return sum(area.blocks << area.order for area in self.free_area)

    @property
    def pcp_pages(self) -> NDArray[np.int64]:
        """pfns on all CPUs' lists, every page of every block."""
        blocks = [
            (each.pages[:, np.newaxis] + np.arange(each.block_pages)).ravel()
            for pageset in self.pcp
            for each in pageset.lists
        ]
        return np.concatenate([np.empty(0, np.int64), *blocks])


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_zones` reads besides ``mem_map``."""
    vmlinux = kernel.vmlinux
    for node in node_addresses(kernel).values():
        with suppress(Absent):
            yield from physical_ranges(kernel, node, vmlinux.sizeof(NODE))
    cpus = possible_cpus(kernel)
    for place, zone in _zones(kernel):
        records: list[Structure] = []
        with suppress(Unobserved):
            records += [pageset.record for pageset in pagesets(kernel, place.title, zone, cpus)]
        with suppress(Unobserved):
            records += _statistics(kernel, place.title, zone, cpus).values()
        for record in records:
            with suppress(MemoryFault):
                yield from physical_ranges(kernel, record.address, len(record.data))


def observe_zones(
    kernel: Kernel, memmap: Callable[[], MemMap], broken: list[Broken] | None = None
) -> tuple[Zone, ...]:
    """All zones in the order of ``enum zone_type``, node by node, empty ones included; every list is followed.

    :param memmap: the pages that the lists link; a zone without it has no lists
    :param broken: takes what a CPU keeps of a zone and that cannot be reached; it is left out
    :raises Unobserved: if the zones themselves cannot be had
    """
    records = [_Record(kernel, place, zone, broken) for place, zone in _zones(kernel)]
    heads = [head for record in records for head in record.heads()]
    lists = known(lambda: _Lists(zip(heads, walk_page_lists(memmap(), heads), strict=True)), "zones")
    return tuple(record.zone(lists) for record in records)


_Lists = dict[ListHead, PageList]


def _zones(kernel: Kernel) -> Iterator[tuple[Place, Structure]]:
    vmlinux, nodes = kernel.vmlinux, node_addresses(kernel)
    for node, address in nodes.items():
        first = address + vmlinux.offset(NODE, "node_zones")
        for index, name in enumerate(zone_names(vmlinux)):
            yield (
                Place(node, index, name, len(nodes)),
                Structure(kernel, _ZONE, first + index * vmlinux.sizeof(_ZONE)),
            )


class _Record:
    """A ``struct zone`` that was read, and how all that is told of it is found."""

    def __init__(self, kernel: Kernel, place: Place, zone: Structure, broken: list[Broken] | None) -> None:
        self._kernel, self._place, self._zone, self._broken = kernel, place, zone, broken

    @cached_property
    def _pagesets(self) -> tuple[Pageset, ...]:
        return pagesets(
            self._kernel, self._place.title, self._zone, possible_cpus(self._kernel), self._broken
        )

    def heads(self) -> list[ListHead]:
        """Of all lists of the zone and of each CPU's share in it, as far as they can be had."""
        found: list[ListHead] = []
        with suppress(Unobserved):
            found += free_list_heads(self._zone)
        with suppress(Unobserved):
            found += [head for pageset in self._pagesets for head in pageset.heads]
        return found

    def zone(self, lists: _Lists | Unobserved) -> Zone:
        """The zone; ``lists`` are all lists, followed, or why they cannot be."""
        zone, architecture = self._zone, self._kernel.architecture

        def told(read: Callable[[], T]) -> T:
            return known(read, self._place.title, self._broken)

        def followed(heads: Iterable[ListHead]) -> list[PageList]:
            if isinstance(lists, Unobserved):
                raise lists
            return [lists[head] for head in heads]

        return Zone(
            place=self._place,
            address=zone.address,
            start_pfn=told(lambda: zone.unsigned("zone_start_pfn")),
            spanned=told(lambda: zone.unsigned("spanned_pages")),
            present=told(lambda: zone.unsigned("present_pages")),
            managed=told(lambda: zone.signed("managed_pages")),
            watermarks=told(lambda: _watermarks(zone)),
            watermark_boost=told(
                lambda: zone.unsigned("watermark_boost") if zone.has("watermark_boost") else 0
            ),
            lowmem_reserve=told(
                lambda: tuple(zone.column("lowmem_reserve", architecture.signed_word).tolist())
            ),
            vm_stat=told(
                lambda: _named(_stat_items(zone.vmlinux), zone.column("vm_stat", architecture.signed_word))
            ),
            vm_stat_diff=told(self._shares),
            free_area=told(lambda: free_areas(zone, followed(free_list_heads(zone)))),
            pcp=told(lambda: tuple(per_cpu_pages(each, followed(each.heads)) for each in self._pagesets)),
            locked=told(lambda: lock_taken(zone, "lock")),
        )

    def _shares(self) -> dict[int, dict[str, int]]:
        """What each CPU has counted and not yet handed in."""
        items = _stat_items(self._zone.vmlinux)
        records = _statistics(
            self._kernel, self._place.title, self._zone, possible_cpus(self._kernel), self._broken
        )
        return {
            cpu: _named(items, record.column("vm_stat_diff", "<i1"))
            for cpu, record in records.items()
            if record.has("vm_stat_diff")
        }


def _statistics(
    kernel: Kernel, title: str, zone: Structure, cpus: tuple[int, ...], broken: list[Broken] | None = None
) -> dict[int, Structure]:
    """Each CPU's share of the statistics of a zone; before 5.14 it is part of the pageset."""
    member = kernel.vmlinux.which_member(_ZONE, "per_cpu_zonestats", "pageset")
    newer = member == "per_cpu_zonestats"
    type_name = "struct per_cpu_zonestat" if newer else "struct per_cpu_pageset"
    pointer = zone.unsigned(member)
    found: dict[int, Structure] = {}
    # On one CPU the newer structure may be empty, and an empty zone shares the boot-time one.
    for cpu in cpus if zone.unsigned("present_pages") and kernel.vmlinux.sizeof(type_name) else ():
        with noted(broken, title, f"{member} of cpu {cpu}"):
            found[cpu] = Structure(kernel, type_name, kernel.per_cpu(pointer, cpu))
    return found


def _stat_items(vmlinux: Vmlinux) -> dict[str, int]:
    """``enum zone_stat_item``: the first name of every number."""
    items: dict[str, int] = {}
    for name, value in vmlinux.enumerators("zone_stat_item").items():
        if value not in items.values() and name != "NR_VM_ZONE_STAT_ITEMS":
            items[name] = value
    return items


def _named(items: dict[str, int], column: NDArray[np.int64]) -> dict[str, int]:
    values = column.tolist()
    return {name: values[index] for name, index in items.items()}


def _watermarks(zone: Structure) -> dict[str, int]:
    names = [name for name in zone.vmlinux.enumerators("zone_watermarks") if name != "NR_WMARK"]
    values = zone.column("_watermark", zone.vmlinux.architecture.word).tolist()
    return dict(zip((name.removeprefix("WMARK_").lower() for name in names), values, strict=True))

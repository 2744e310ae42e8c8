"""The zones: where each lies, how much it has, and every free page that it keeps.

Source: ``struct zone`` and ``struct pglist_data``, include/linux/mmzone.h; what is free is computed as
``zone_page_state_snapshot`` does, include/linux/vmstat.h (6.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import MemoryFault
from kvmtools.observe.broken import Broken, noted
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.nodes import NODE, node_addresses
from kvmtools.observe.pages.memmap import MemMap
from kvmtools.observe.pages.page_flags import zone_names
from kvmtools.observe.per_cpu import physical_ranges, possible_cpus
from kvmtools.observe.structure import Structure
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.observe.zones.free_lists import FreeArea, free_areas, free_list_heads
from kvmtools.observe.zones.list_walk import ListHead, PageList, walk_page_lists
from kvmtools.observe.zones.per_cpu_pages import PerCpuPages, lock_taken, pagesets, per_cpu_pages
from kvmtools.records import Range

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
class Zone:
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
            (each.pages[:, np.newaxis] + np.arange(1 << each.order)).ravel()
            for pageset in self.pcp
            for each in pageset.lists
        ]
        return np.concatenate([np.empty(0, np.int64), *blocks])


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_zones` reads besides ``mem_map``."""
    vmlinux = kernel.vmlinux
    for node in node_addresses(kernel).values():
        yield from physical_ranges(kernel, node, vmlinux.sizeof(NODE))
    cpus = possible_cpus(kernel)
    for place, zone in _zones(kernel):
        records = [pageset.record for pageset in pagesets(kernel, place.title, zone, cpus)]
        records += _statistics(kernel, place.title, zone, cpus).values()
        for record in records:
            with suppress(MemoryFault):
                yield from physical_ranges(kernel, record.address, len(record.data))


def observe_zones(kernel: Kernel, memmap: MemMap, broken: list[Broken] | None = None) -> tuple[Zone, ...]:
    """All zones in the order of ``enum zone_type``, node by node, empty ones included; every list is followed.

    :param broken: takes what a CPU keeps of a zone and that cannot be reached; it is left out
    :raises MemoryFault: if the zones themselves were not captured
    """
    cpus = possible_cpus(kernel)
    zones = list(_zones(kernel))
    sets = [pagesets(kernel, place.title, zone, cpus, broken) for place, zone in zones]
    heads: list[ListHead] = []
    for (_place, zone), owned in zip(zones, sets, strict=True):
        heads += free_list_heads(zone)
        heads += [head for pageset in owned for head in pageset.heads]
    walked = iter(walk_page_lists(memmap, heads))
    found = []
    for (place, zone), owned in zip(zones, sets, strict=True):
        areas = free_areas(zone, _take(walked, len(free_list_heads(zone))))
        pcp = tuple(per_cpu_pages(pageset, _take(walked, len(pageset.heads))) for pageset in owned)
        statistics = _statistics(kernel, place.title, zone, cpus, broken)
        found.append(_zone(place, zone, areas, pcp, statistics))
    return tuple(found)


def _take(lists: Iterator[PageList], count: int) -> list[PageList]:
    return [next(lists) for _ in range(count)]


def _zones(kernel: Kernel) -> Iterator[tuple[Place, Structure]]:
    vmlinux, nodes = kernel.vmlinux, node_addresses(kernel)
    for node, address in nodes.items():
        first = address + vmlinux.offset(NODE, "node_zones")
        for index, name in enumerate(zone_names(vmlinux)):
            yield (
                Place(node, index, name, len(nodes)),
                Structure(kernel, _ZONE, first + index * vmlinux.sizeof(_ZONE)),
            )


def _zone(
    place: Place, zone: Structure,
    areas: tuple[FreeArea, ...], pcp: tuple[PerCpuPages, ...], statistics: dict[int, Structure],
) -> Zone:  # fmt: skip
    vmlinux = zone.vmlinux
    items = _stat_items(vmlinux)
    diffs = {
        cpu: _named(items, record.column("vm_stat_diff", "<i1"))
        for cpu, record in statistics.items()
        if record.has("vm_stat_diff")
    }
    marks = zone.column("_watermark", vmlinux.architecture.word).tolist()
    return Zone(
        place=place,
        address=zone.address,
        start_pfn=zone.unsigned("zone_start_pfn"),
        spanned=zone.unsigned("spanned_pages"),
        present=zone.unsigned("present_pages"),
        managed=zone.signed("managed_pages"),
        watermarks=dict(zip(_watermark_names(vmlinux), marks, strict=True)),
        watermark_boost=zone.unsigned("watermark_boost") if zone.has("watermark_boost") else 0,
        lowmem_reserve=tuple(zone.column("lowmem_reserve", vmlinux.architecture.signed_word).tolist()),
        vm_stat=_named(items, zone.column("vm_stat", vmlinux.architecture.signed_word)),
        vm_stat_diff=diffs,
        free_area=areas,
        pcp=pcp,
        locked=lock_taken(zone, "lock"),
    )


def _statistics(
    kernel: Kernel, title: str, zone: Structure, cpus: tuple[int, ...], broken: list[Broken] | None = None
) -> dict[int, Structure]:
    """Each CPU's share of a zone's statistics; before 5.14 it is part of the pageset."""
    newer = zone.has("per_cpu_zonestats")
    member, type_name = (
        ("per_cpu_zonestats", "struct per_cpu_zonestat") if newer else ("pageset", "struct per_cpu_pageset")
    )
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


def _watermark_names(vmlinux: Vmlinux) -> tuple[str, ...]:
    marks = vmlinux.enumerators("zone_watermarks")
    return tuple(name.removeprefix("WMARK_").lower() for name in marks if name != "NR_WMARK")

"""Where lowmem ends, and which pfns each zone spans, node by node.

The nodes are told.  Every node has all zones, each the part of it that lies in the zone's limits.

Source: arch/x86/mm/init_32.c (lowmem_pfn_init, highmem_pfn_init), arch/x86/mm/init.c (zone_sizes_init),
mm/page_alloc.c (free_area_init, calculate_node_totalpages), 5.10 to 7.2;
arch/i386/mm/init.c (paging_init), 2.4.18, and kernel/setup.c (zone_sizes_init), 2.6.18.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from kvmtools.errors import Inconclusive, UsageError
from kvmtools.model import eras
from kvmtools.model.command_line import size
from kvmtools.model.memory import movable
from kvmtools.model.memory.ram import Ram
from kvmtools.records import PAGE_SHIFT, Configuration, PredictedLayout, Range, ZoneSpan

MAX_DMA_PFN = (16 << 20) >> PAGE_SHIFT
SMALLEST_LOWMEM = (64 << 20) >> PAGE_SHIFT
"""``highmem=`` may not leave less lowmem than this, in pages."""
MAX_NONPAE_PFN = 1 << (32 - PAGE_SHIFT)


def find_low_pfn_range(configuration: Configuration, end_pfn: int, maxmem_pfn: int) -> tuple[int, int]:
    """``(max_low_pfn, max_pfn)``: how RAM that ends at ``end_pfn`` divides into lowmem and highmem."""
    asked = size(configuration.command_line, "highmem")
    highmem = None if asked is None else asked >> PAGE_SHIFT
    if end_pfn <= maxmem_pfn:
        return _all_fits(configuration, end_pfn, highmem or 0), end_pfn
    max_pfn = end_pfn
    if highmem is not None:
        max_pfn = min(max_pfn, maxmem_pfn + highmem)
    if not configuration.highmem:
        max_pfn = maxmem_pfn
    elif not (configuration.pae and eras.shown(configuration.marks).highmem64g):
        max_pfn = min(max_pfn, MAX_NONPAE_PFN)
    return maxmem_pfn, max_pfn


def _all_fits(configuration: Configuration, end_pfn: int, highmem: int) -> int:
    """``max_low_pfn`` when lowmem could hold everything; ``highmem=`` may still set pages apart."""
    if not configuration.highmem or end_pfn - highmem < SMALLEST_LOWMEM:
        return end_pfn
    return end_pfn - highmem


def node(configuration: Configuration, layout: PredictedLayout, ram: Ram) -> Ram:
    """The pages that zones are made of: RAM, until 2.6.24 with all holes in it."""
    if eras.shown(configuration.marks).zones_cover_holes:
        return Ram((Range(0, layout.max_pfn),), ram.end_pfn)
    return registered(configuration, layout, ram)


def registered(configuration: Configuration, layout: PredictedLayout, ram: Ram) -> Ram:
    """The RAM that the kernel's memory management is told of; the sections of SPARSEMEM are those that hold some.

    :raises UsageError: if there is none
    """
    found = ram.below(layout.max_pfn) if eras.shown(configuration.marks).ram_ends_at_max_pfn else ram
    if not found.ranges:
        raise UsageError(
            f"all RAM lies beyond max_pfn {layout.max_pfn:#x}", hint="this kernel needs CONFIG_HIGHMEM for it"
        )
    return found


def spans(configuration: Configuration, layout: PredictedLayout, ram: Ram) -> tuple[ZoneSpan, ...]:
    """One span for every zone of every node, in the order of ``enum zone_type``; an empty zone is ``[0, 0)``.

    :param ram: as :func:`node` gives it
    :raises Inconclusive: if nodes lie within each other, as they may
    :raises UsageError: if nodes of this era set lowmem apart for their ``mem_map``
    """
    possible = _possible(configuration, layout, ram)
    nodes = _nodes(configuration, ram)
    starts = movable.starts(configuration, possible[_highest(possible)].start, [part for _, part in nodes])
    return tuple(
        span
        for (number, part), start in zip(nodes, starts, strict=True)
        for span in _of_node(number, part, possible, start)
    )


def _nodes(configuration: Configuration, ram: Ram) -> list[tuple[int, Ram]]:
    """The number and the RAM of every node."""
    if not configuration.nodes:
        return [(0, ram)]
    era = eras.shown(configuration.marks)
    if era.discontigmem:
        raise UsageError(f"{era.name} takes every node's mem_map out of lowmem: how is not modelled here")
    told = sorted((node.start_pfn, node.end_pfn, node.number) for node in configuration.nodes)
    for (_start, end, one), (start, _end, other) in pairwise(node for node in told if node[0] < node[1]):
        if start < end:
            raise Inconclusive(
                f"nodes {one} and {other} overlap: where they begin and end does not tell whose a page is"
            )
    return [
        (node.number, Ram(tuple(ram.within(node.start_pfn, node.end_pfn)), ram.end_pfn))
        for node in configuration.nodes
    ]


def _of_node(
    number: int, ram: Ram, possible: dict[str, Range], movable_start: int | None
) -> Iterator[ZoneSpan]:
    """The zones of one node; ``ram`` is its own."""
    reach = Range(ram.ranges[0].start, ram.ranges[-1].end) if ram.ranges else Range(0, 0)
    for name, limits in possible.items():
        zone = _clamp(limits, reach)
        if movable_start is not None and name == "MOVABLE":
            zone = Range(movable_start, min(reach.end, possible[_highest(possible)].end))
        elif movable_start is not None:
            zone = Range(zone.start, min(zone.end, movable_start))
        yield ZoneSpan(name, zone.start, zone.end, number) if len(zone) else ZoneSpan(name, 0, 0, number)


def present(span: ZoneSpan, ram: Ram) -> int:
    """``zone->present_pages``: the span without the holes that :func:`node` leaves; no other node lies in it."""
    return ram.pages(span.start_pfn, span.end_pfn)


def _possible(configuration: Configuration, layout: PredictedLayout, ram: Ram) -> dict[str, Range]:
    """The architecture's limits, each zone from where the last one ended; DMA32 and MOVABLE have none."""
    limits = {
        "DMA": min(MAX_DMA_PFN, layout.max_low_pfn),
        "NORMAL": layout.max_low_pfn,
        "HIGHMEM": layout.max_pfn,
    }
    possible: dict[str, Range] = {}
    start = ram.ranges[0].start
    for name in configuration.zone_names:
        if name not in limits and name not in ("DMA32", "MOVABLE"):
            raise UsageError(
                f"an i386 kernel has no zone {name}", hint=f"it has {', '.join(limits)}, MOVABLE"
            )
        end = max(limits.get(name, start), start)
        possible[name] = Range(start, end)
        start = end
    return possible


def _highest(possible: dict[str, Range]) -> str:
    """The zone out of which ``MOVABLE`` is cut: the highest that is not empty."""
    return [name for name, zone in possible.items() if len(zone)][-1]


def _clamp(zone: Range, reach: Range) -> Range:
    return Range(max(zone.start, reach.start), min(zone.end, reach.end))

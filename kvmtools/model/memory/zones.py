"""Where lowmem ends, and which pfns each zone spans.

Source: arch/x86/mm/init_32.c (lowmem_pfn_init, highmem_pfn_init), arch/x86/mm/init.c (zone_sizes_init),
mm/page_alloc.c (free_area_init, find_zone_movable_pfns_for_nodes, calculate_node_totalpages), 5.10 to 7.2;
arch/i386/mm/init.c (paging_init), 2.4.18, and kernel/setup.c (zone_sizes_init), 2.6.18.
"""

from __future__ import annotations

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.command_line import memparse, number, size, values
from kvmtools.model.memory.ram import Ram
from kvmtools.model.rounding import roundup
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Layout, Range, ZoneSpan

MAX_DMA_PFN = (16 << 20) >> PAGE_SHIFT
SMALLEST_LOWMEM = (64 << 20) >> PAGE_SHIFT
"""``highmem=`` may not leave less lowmem than this, in pages."""
_UNSIGNED_LONG = 1 << 32
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


def node(configuration: Configuration, layout: Layout, ram: Ram) -> Ram:
    """The pages that zones are made of: RAM, until 2.6.24 with all holes in it."""
    assert layout.max_pfn is not None
    if eras.shown(configuration.marks).zones_cover_holes:
        return Ram((Range(0, layout.max_pfn),), ram.end_pfn)
    return registered(configuration, layout, ram)


def registered(configuration: Configuration, layout: Layout, ram: Ram) -> Ram:
    """The RAM that the kernel's memory management is told of; the sections of SPARSEMEM are those that hold some.

    :raises UsageError: if there is none
    """
    assert layout.max_pfn is not None
    found = ram.below(layout.max_pfn) if eras.shown(configuration.marks).ram_ends_at_max_pfn else ram
    if not found.ranges:
        raise UsageError(
            f"all RAM lies beyond max_pfn {layout.max_pfn:#x}", hint="this kernel needs CONFIG_HIGHMEM for it"
        )
    return found


def spans(configuration: Configuration, layout: Layout, ram: Ram) -> tuple[ZoneSpan, ...]:
    """One span for every zone, in the order of ``enum zone_type``; an empty zone is ``[0, 0)``.

    :param ram: as :func:`node` gives it
    """
    possible = _possible(configuration, layout, ram)
    movable_start = _movable_start(configuration, possible, ram)
    reach = Range(ram.ranges[0].start, ram.ranges[-1].end)
    result = []
    for name in configuration.zone_names:
        zone = _clamp(possible[name], reach)
        if movable_start is not None and name == "MOVABLE":
            zone = Range(movable_start, min(reach.end, possible[_highest(possible)].end))
        elif movable_start is not None:
            zone = Range(zone.start, min(zone.end, movable_start))
        result.append(ZoneSpan(name, zone.start, zone.end) if len(zone) else ZoneSpan(name, 0, 0))
    return tuple(result)


def present(span: ZoneSpan, ram: Ram) -> int:
    """``zone->present_pages``: the span without the holes that :func:`node` leaves."""
    return ram.pages(span.start_pfn, span.end_pfn)


def _possible(configuration: Configuration, layout: Layout, ram: Ram) -> dict[str, Range]:
    """The architecture's limits, each zone from where the last one ended; DMA32 and MOVABLE have none."""
    assert layout.max_low_pfn is not None
    assert layout.max_pfn is not None
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


def _movable_start(configuration: Configuration, possible: dict[str, Range], ram: Ram) -> int | None:
    """The first pfn of ``MOVABLE``; ``None`` if ``kernelcore=`` and ``movablecore=`` ask for none, or nobody listens.

    It may lie at the end of RAM or beyond: then the zone is empty all the same.
    """
    if "MOVABLE" not in configuration.zone_names:
        return None
    if any("mirror" in value.split(",") for value in values(configuration.command_line, "kernelcore")):
        return None
    total = sum(map(len, ram.ranges))
    block = 1 << (configuration.max_order - 1)
    kernelcore = min(_pages_asked(configuration, "kernelcore", total), total)
    movablecore = _pages_asked(configuration, "movablecore", total)
    if movablecore:
        kernelcore = max(kernelcore, total - min(total, roundup(movablecore, block)))
    if not kernelcore:
        return None
    lowest = possible[_highest(possible)].start
    # How far into each range the kernel's share reaches, if it begins there; it ends in the first that has room.  The
    # zone has none at all if max_pfn is the end of something else than RAM.
    reach = [
        (r, r.start + max(0, kernelcore - ram.pages(0, r.start)))
        for r in ram.within(lowest, ram.ranges[-1].end)
    ]
    start = next((end for r, end in reach if end <= r.end), ram.ranges[-1].end)
    return roundup(start, block)


def _pages_asked(configuration: Configuration, name: str, total: int) -> int:
    """``kernelcore=`` or ``movablecore=``, given in bytes or in percent of all RAM; the last one counts."""
    given = values(configuration.command_line, name)
    if not given:
        return 0
    percent, rest = number(given[-1])
    if rest.startswith("%") and eras.shown(configuration.marks).movable_percent:
        # The product is an unsigned long: on i386 half of 4 GiB is too much for it.
        return total * 100 * percent % _UNSIGNED_LONG // 10000
    return memparse(given[-1])[0] // PAGE_SIZE


def _clamp(zone: Range, reach: Range) -> Range:
    return Range(max(zone.start, reach.start), min(zone.end, reach.end))

"""What must hold of a buddy allocator in any state, worked out from the set of free pfns and the raw words of memory.

Nothing here knows how blocks are split, merged or listed.  FACTS E 34, 35 and 38:

34  a page that is marked heads a free block: nobody holds it, its order is in ``private``, it is aligned, lies in one
    zone, no other page of the block is marked, and the block is on the list of its order and zone
35  lists are circular, both ways, and as long as ``nr_free`` says
38  two free buddies are merged: the free blocks are the largest aligned ones that the free pfns make up
"""

from __future__ import annotations

from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.buddy.record import Bitmaps, BuddyZone
from kvmtools.model.bugs import KernelBug
from kvmtools.records import ZoneSpan

Blocks = frozenset[tuple[int, int]]
"""``(pfn, order)``."""


def base_of(buddy: Buddy, span: ZoneSpan) -> int:
    """2.4 aligns blocks to the zone, later kernels to memory."""
    return span.start_pfn if buddy.era.name == "2.4" else 0


def maximal(free: frozenset[int], span: ZoneSpan, max_order: int, base: int = 0) -> Blocks:
    """The largest aligned blocks of which all pfns are free and in the zone."""
    left = {pfn for pfn in free if span.start_pfn <= pfn < span.end_pfn}
    found = set()
    for order in reversed(range(max_order)):
        for pfn in sorted(left):
            block = set(range(pfn, pfn + (1 << order)))
            if (pfn - base) % (1 << order) == 0 and block <= left:
                found.add((pfn, order))
                left -= block
    return frozenset(found)


def marked_order(buddy: Buddy, pfn: int) -> int | None:
    """The order that the struct page claims, by offsets and values as they stand in FACTS C.3 and C.5."""
    page = buddy.mem_map.pfn_to_page(pfn)
    if buddy.era.name.startswith("2.6"):
        marked, private = buddy.mem_map.read(page, 0) >> 19 & 1 == 1, 12
    elif buddy.era.name in ("5.10", "6.1"):
        marked, private = buddy.mem_map.read(page, 24) == 0xFFFFFF7F, 20
    else:
        marked, private = buddy.mem_map.read(page, 24) >> 24 == 0xF0, 20
    return buddy.mem_map.read(page, private) if marked else None


def refcount(buddy: Buddy, pfn: int) -> int:
    """``page_count``."""
    offset = {"2.4": 20, "2.6.18": 4, "2.6.24": 4, "2.6.32": 4}.get(buddy.era.name, 28)
    return buddy.mem_map.read(buddy.mem_map.pfn_to_page(pfn), offset)


def faults(buddy: Buddy, free: frozenset[int]) -> list[str]:
    """Which of the invariants do not hold, given the pfns that ought to be free."""
    found = []
    for zone in buddy.zones:
        if zone.span.start_pfn == zone.span.end_pfn:
            continue
        try:
            lists = buddy.free_lists(zone.index)
        except KernelBug as error:
            return [f"35: {error}"]
        lengths = [len(pfns) for pfns in lists]
        if lengths != zone.nr_free:
            found.append(f"35: lists of {zone.span.name} are {lengths} long, nr_free is {zone.nr_free}")
        listed = frozenset((pfn, order) for order, pfns in enumerate(lists) for pfn in pfns)
        expected = maximal(free, zone.span, buddy.era.max_order, base_of(buddy, zone.span))
        if listed != expected:
            found.append(f"38: {zone.span.name} has {sorted(listed)}, not {sorted(expected)}")
        if buddy.era.name != "2.4":
            found += _faults_34(buddy, zone, listed)
    if buddy.era.name == "2.4":
        found += [f"34: somebody holds free pfn {pfn}" for pfn in free if refcount(buddy, pfn)]
        found += _bitmap(buddy, free)
    return found


def _faults_34(buddy: Buddy, zone: BuddyZone, listed: Blocks) -> list[str]:
    """For every struct page of a zone, of RAM or not."""
    found = []
    present = filter(buddy.mem_map.pfn_valid, range(zone.span.start_pfn, zone.span.end_pfn))
    marked = ((pfn, marked_order(buddy, pfn)) for pfn in present)
    blocks = {pfn: order for pfn, order in marked if order is not None}
    for pfn, order in blocks.items():
        inside = range(pfn, pfn + (1 << order))
        if order >= buddy.era.max_order or pfn % (1 << order):
            found.append(f"34: pfn {pfn} heads a block of order {order}")
        elif inside.stop > zone.span.end_pfn:
            found.append(f"34: block {pfn} of order {order} leaves the zone")
        elif any(other in blocks for other in inside[1:]):
            found.append(f"34: another block begins inside block {pfn} of order {order}")
        elif any(refcount(buddy, held) for held in inside):
            found.append(f"34: somebody holds a page of block {pfn} of order {order}")
    if frozenset(blocks.items()) != listed:
        found.append(f"34: {zone.span.name} has other blocks marked than listed: {sorted(blocks.items())}")
    return found


def _bitmap(buddy: Buddy, free: frozenset[int]) -> list[str]:
    """A bit is set if just one of two buddies is free, on the list or as part of a block."""
    assert isinstance(buddy._record, Bitmaps)
    expected = set()
    for zone in buddy.zones:
        for order in range(buddy.era.max_order - 1):
            for pair, pfn in enumerate(range(zone.span.start_pfn, zone.span.end_pfn, 2 << order)):
                halves = (range(pfn, pfn + (1 << order)), range(pfn + (1 << order), pfn + (2 << order)))
                if sum(set(half) <= free and half.stop <= zone.span.end_pfn for half in halves) == 1:
                    expected.add((zone.index, order, pair))
    if buddy._record.set_bits != expected:
        return [f"34: bits {sorted(buddy._record.set_bits ^ expected)} are wrong"]
    return []

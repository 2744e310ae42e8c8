"""A guest of two nodes, which none of the recorded ones is: the PAE guest is told anew, as if its highmem were parted
between two nodes and its ``mem_map`` were one section of SPARSEMEM.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from recorded_guest import exchanged

from kvmtools.compare.list_orders import with_orders
from kvmtools.observe.observed import Observed
from kvmtools.observe.pages.memmap import MemMap
from kvmtools.observe.pages.pieces import Piece
from kvmtools.observe.zones.zones import Place, Zone
from kvmtools.records import NodeSpan

BORDER = 0x5000
"""The first pfn of node 1, in highmem."""
SECTION = 1 << 17
"""Pages of a section."""
SECTION_BIT, NODE_BIT, ZONE_BIT = 1 << 25, 1 << 24, 1 << 22
"""The lowest bit of each in ``page->flags``."""
FLAGS = ZONE_BIT - 1
HIGHMEM = 2


def two_nodes(seen: Observed) -> Observed:
    last = max(zone.end_pfn for zone in seen.zones)
    nodes = (NodeSpan(0, 1, BORDER), NodeSpan(1, BORDER, last))
    told = replace(seen.configuration, sparsemem=True, nodes=nodes, max_numnodes=2, nr_pageflags=22)
    whole = with_orders(seen.zones, told)
    zones = tuple(part(zone, number, nodes[number]) for number in (0, 1) for zone in whole)
    return exchanged(seen, configuration=told, memmap=one_section(seen.memmap), zones=zones)


def one_section(memmap: MemMap) -> MemMap:
    """The map with room for all pages of a section, those behind RAM reserved."""
    words = np.zeros((len(memmap.words), SECTION), memmap.words.dtype)
    words[:, : memmap.length] = memmap.words
    word = {name: offset // words.itemsize for name, offset in memmap.offsets.items()}
    flags = words[word["flags"]]
    zone = flags[: memmap.length] >> 30  # FLATMEM: the two bits at the top
    flags[: memmap.length] = flags[: memmap.length] & FLAGS | zone * ZONE_BIT
    flags[memmap.length :] = memmap.layout.bit("PG_reserved") | HIGHMEM * ZONE_BIT
    flags[BORDER:] |= NODE_BIT
    words[word["_refcount"], memmap.length :] = 1
    words[word["_mapcount"], memmap.length :] = 0xFFFF_FFFF
    named = {name: bit for name, bit in memmap.layout.names.items() if 1 << bit <= FLAGS}
    layout = replace(memmap.layout, names=named)
    pieces = (Piece(0, SECTION, memmap.base, memmap.physical),)
    return replace(memmap, pieces=pieces, max_mapnr=None, words=words, layout=layout)


def part(zone: Zone, node: int, span: NodeSpan) -> Zone:
    """What a node has of a zone: the pages of highmem in its span, with the lists that hold them."""
    start, end = max(zone.start_pfn, span.start_pfn), min(zone.end_pfn, span.end_pfn)
    place = Place(node, zone.index, zone.name, 2)
    if start >= end:
        empty = dict.fromkeys(("start_pfn", "spanned", "present", "managed"), 0)
        return replace(zone, place=place, address=zone.address + node, free_area=(), pcp=(), **empty)

    def mine(pages: NDArray[np.int64]) -> NDArray[np.int64]:
        return pages[(pages >= start) & (pages < end)]

    areas = [
        replace(area, lists=tuple(replace(each, pages=mine(each.pages)) for each in area.lists))
        for area in zone.free_area
    ]
    pcp = [
        replace(one, lists=tuple(replace(each, pages=mine(each.pages)) for each in one.lists))
        for one in zone.pcp
    ]
    whole = (start, end) == (zone.start_pfn, zone.end_pfn)
    free = sum(area.blocks << area.order for area in areas)
    return replace(
        zone,
        place=place,
        address=zone.address + node,
        start_pfn=start,
        spanned=end - start,
        present=zone.present if whole else end - start,
        managed=zone.managed if whole else end - start,
        free_area=tuple(replace(area, nr_free=area.blocks) for area in areas),
        pcp=tuple(replace(one, count=one.pages) for one in pcp),
        vm_stat=zone.vm_stat | {"NR_FREE_PAGES": free},
        vm_stat_diff={},
    )

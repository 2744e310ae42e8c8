"""x86_64's SPARSEMEM_VMEMMAP: the virtual ``mem_map`` where it was built at last, with room to spare.

Nothing here is new.  The window is at a fixed address with room for all of physical memory, the form of paging is
4-level long mode, ``struct page`` has 64 bytes, and what is added is always a whole section of 128 MiB, whose
``struct page`` fill one leaf of 2 MiB to the last byte: no leaf has neighbours that are not meant.  64 TiB for the
direct map make the whole argument of 2006 about virtual space void.

One thing is simplified: x86_64 answers ``pfn_valid`` from ``mem_section``, which it keeps for hotplug; here it walks
the page table as proposed.  With whole sections the answers agree.

Source: arch/x86/include/asm/pgtable_64_types.h, sparsemem.h, page_64_types.h, arch/x86/mm/init_64.c
(vmemmap_populate), 6.1, without RANDOMIZE_MEMORY.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvmtools.model.memmaps.metered_memory import KernelSpace
from kvmtools.model.memmaps.virtual_map import VirtualMap
from kvmtools.model.memory.ram import Ram
from kvmtools.model.paging.forms import long_mode
from kvmtools.model.rounding import rounddown, roundup
from kvmtools.records import PAGE_SHIFT, Range

VMEMMAP_START = 0xFFFFEA0000000000
PAGE_OFFSET = 0xFFFF888000000000
PAGE_STRUCT_SIZE = 64
SECTION_PAGES = (128 << 20) >> PAGE_SHIFT
MAX_PFN = 1 << (46 - PAGE_SHIFT)
"""``MAX_PHYSMEM_BITS`` of 4-level paging is 46."""
LEAF = 2 << 20


def vmemmap(ram: Iterable[Range]) -> VirtualMap:
    """The map of an x86_64 kernel.

    :param ram: its RAM, sorted and disjoint, in pfns
    :raises UsageError: if there is not enough of it for its own map
    """
    memory = Ram(tuple(ram), 0)

    def may_be_large(start: int) -> bool:
        first, last = start >> PAGE_SHIFT, (start + LEAF) >> PAGE_SHIFT
        return memory.pages(first, last) == last - first

    space = KernelSpace(
        long_mode(), memory.ranges, page_offset=PAGE_OFFSET, mapped=memory, may_be_large=may_be_large
    )
    made = VirtualMap(space, PAGE_STRUCT_SIZE, VMEMMAP_START, MAX_PFN, LEAF, [space.lowmem])
    for r in memory.ranges:
        made.add(rounddown(r.start, SECTION_PAGES), roundup(r.end, SECTION_PAGES))
    return made

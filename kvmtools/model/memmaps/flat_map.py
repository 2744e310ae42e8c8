"""FLATMEM: one array for every pfn from 0 to the end of memory, holes and all.

The array lies in lowmem, in one piece.  Two variables say where it is and how far it is valid, so each conversion
reads one of them and the rest is arithmetic.  What it costs is the memory: 32 bytes for every 4096 of RAM *and* of
holes, out of the lowmem that a machine with much highmem is short of.

The array is longer than ``max_mapnr`` says.  Whitcroft, 25 September 2006: the buddy allocator wants ``struct page``
contiguous and present out to MAX_ORDER, so the kernel rounds its end up to the largest block.  The entries of that
*tail* exist although ``pfn_valid`` denies it (7.2 rounds ``max_mapnr`` too, and does not deny it any more).

Source: mm/page_alloc.c (alloc_node_mem_map), include/asm-generic/memory_model.h, arch/x86/include/asm/page_32.h, 6.1;
mm/mm_init.c, 7.2.
"""

from __future__ import annotations

from dataclasses import replace

from kvmtools.errors import UsageError
from kvmtools.model.memmaps.conversions import Conversions, Footprint
from kvmtools.model.memmaps.metered_memory import KernelSpace, booted
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import pfn_up, roundup
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Range


class FlatMap(Conversions):
    """The array, and the variables ``mem_map`` and ``max_mapnr``.

    :param length: entries of the array
    :param max_mapnr: pfns from there on are not valid
    :raises UsageError: if lowmem has no room for the array in one piece: such a machine does not boot
    """

    kind = "FLATMEM"

    def __init__(self, space: KernelSpace, page_struct_size: int, length: int, max_mapnr: int) -> None:
        super().__init__(space, page_struct_size)
        self.length = length
        self.max_mapnr = max_mapnr
        pages = pfn_up(length * page_struct_size)
        self.base = space.direct(space.memblock.take(pages, space.lowmem).start << PAGE_SHIFT)
        self._mem_map = space.variable()
        self._max_mapnr = space.variable()
        space.write(self._mem_map, space.word, self.base)
        space.write(self._max_mapnr, space.word, max_mapnr)

    @property
    def valid(self) -> tuple[Range, ...]:
        return (Range(0, self.max_mapnr),)

    @property
    def footprint(self) -> Footprint:
        size = self.length * self.page_struct_size
        return Footprint(
            struct_pages=size,
            window=0,
            lowmem=roundup(size, PAGE_SIZE),
            highmem=0,
            page_tables=0,
            static=2 * self.space.word,
        )

    def pfn_valid(self, pfn: int) -> bool:
        return 0 <= pfn < self.space.read(self._max_mapnr, self.space.word)

    def pfn_to_page(self, pfn: int) -> int:
        return (self.space.read(self._mem_map, self.space.word) + pfn * self.page_struct_size) & self._mask

    def page_to_pfn(self, page: int) -> int:
        pfn = self._distance(page, self.space.read(self._mem_map, self.space.word))
        if pfn >= self.length:
            end = self.base + self.length * self.page_struct_size
            raise UsageError(f"{page:#x} is not in mem_map", hint=f"mem_map is {self.base:#x}-{end:#x}")
        return pfn


def flat_map(configuration: Configuration) -> FlatMap:
    """The map of a FLATMEM kernel of this configuration, whatever it says about SPARSEMEM.

    :raises UsageError: if no kernel can have it, or it could not boot
    """
    prediction = Prediction(replace(configuration, sparsemem=False))
    expected = prediction.memmap
    assert expected.length is not None
    assert expected.max_mapnr is not None
    return FlatMap(booted(prediction), configuration.page_struct_size, expected.length, expected.max_mapnr)

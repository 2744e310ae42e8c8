"""SPARSEMEM: memory is cut into sections, and a section that holds RAM has an array of its own.

``mem_section[]`` has one word per section that says where its array is, minus the pfn at which the section begins, so
that ``section_mem_map + pfn`` is the ``struct page`` without another subtraction.  Being the address of something
aligned, the word has room for flags in its low bits.  The way back needs the section first, and that is in the upper
bits of ``page->flags``: a conversion from ``struct page`` to pfn reads the page itself, which the others never do.

i386 has the table as a static array (SPARSEMEM_STATIC): one look-up.  Lameter counts two, a table of tables
(SPARSEMEM_EXTREME), as 64-bit kernels had; ``extreme=True`` builds that one for comparison.

``pfn_valid`` knows whole sections: 512 MiB with PAE, 64 MiB without (1 GiB with PAE up to 2.6.24).  A hole within a
section that holds any RAM is valid, and takes its 32 bytes a page as in FLATMEM; a hole of whole sections is free.

Source: include/linux/mmzone.h, include/asm-generic/memory_model.h, mm/sparse.c (sparse_init_one_section,
sparse_encode_mem_map), arch/x86/include/asm/sparsemem.h, 6.1; arch/x86/Kconfig (SPARSEMEM_STATIC if X86_32).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.memmaps.conversions import Conversions, Footprint
from kvmtools.model.memmaps.metered_memory import KernelSpace, booted
from kvmtools.model.memory.ram import joined
from kvmtools.model.pages import memmap
from kvmtools.model.pages.flags_layout import FlagsLayout
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import div_round_up, pfn_up
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Range

HAS_MEM_MAP = 1 << 1
"""Of the flags in ``section_mem_map`` the one that ``pfn_valid`` asks for; a section that is there has all of them."""
SECTION_WORDS = 2
"""``sizeof(struct mem_section)`` in longs: the map, and ``usage`` (``pageblock_flags`` in 2.6.24)."""


class SparseMap(Conversions):
    """The arrays, and ``mem_section``.

    :param sections: numbers of the sections that are present
    :param section_pages: pfns of a section
    :param flags: where ``page->flags`` keeps the section
    :param flag_bits: how many low bits of ``section_mem_map`` are flags
    :param extreme: the table is one of pointers to pages full of sections
    :raises UsageError: if lowmem has no room for the arrays: such a machine does not boot
    """

    kind = "SPARSEMEM"

    def __init__(
        self,
        space: KernelSpace,
        page_struct_size: int,
        sections: Iterable[int],
        section_pages: int,
        flags: FlagsLayout,
        *,
        flag_bits: int = 4,
        extreme: bool = False,
    ) -> None:
        super().__init__(space, page_struct_size)
        self._extreme = extreme
        self.section_pages = section_pages
        self.nr_sections = 1 << flags.section_width
        self._flags = flags
        self._map_mask = self._mask & -(1 << flag_bits)
        self._array_pages = pfn_up(section_pages * page_struct_size)
        self._section_size = SECTION_WORDS * space.word
        self._per_root = PAGE_SIZE // self._section_size if extreme else self.nr_sections
        self._roots = div_round_up(self.nr_sections, self._per_root)
        self._table = space.variable(self._roots if extreme else SECTION_WORDS * self.nr_sections)
        self._root_pages: dict[int, int] = {}
        self.arrays: dict[int, int] = {}
        """Virtual address of every section's array."""
        self._initialised: set[int] = set()
        for number in sections:
            self._init_one_section(number, (1 << flag_bits) - 1)
        self._sections_at = sorted((array, number) for number, array in self.arrays.items())

    @property
    def valid(self) -> tuple[Range, ...]:
        size = self.section_pages
        return tuple(joined(Range(n * size, (n + 1) * size) for n in sorted(self.arrays)))

    @property
    def footprint(self) -> Footprint:
        size = self._array_pages * PAGE_SIZE * len(self.arrays)
        entries = self._roots if self._extreme else SECTION_WORDS * self.nr_sections
        return Footprint(
            struct_pages=size,
            window=0,
            lowmem=size + len(self._root_pages) * PAGE_SIZE,
            highmem=0,
            page_tables=0,
            static=entries * self.space.word,
        )

    def pfn_valid(self, pfn: int) -> bool:
        section = pfn // self.section_pages
        return 0 <= section < self.nr_sections and bool(self._section_mem_map(section) & HAS_MEM_MAP)

    def pfn_to_page(self, pfn: int) -> int:
        section = pfn // self.section_pages
        if not 0 <= section < self.nr_sections:
            raise UsageError(
                f"pfn {pfn:#x} is beyond the last section",
                hint=f"{self.nr_sections} sections of {self.section_pages:#x} pages are all that there can be",
            )
        code = self._section_mem_map(section) & self._map_mask
        return (code + pfn * self.page_struct_size) & self._mask

    def page_to_pfn(self, page: int) -> int:
        section = self._flags.section(self.read(page)) or 0
        pfn = self._distance(page, self._section_mem_map(section) & self._map_mask)
        if pfn // self.section_pages != section:
            raise UsageError(f"{page:#x} is no struct page", hint="it is in none of the sections' arrays")
        return pfn

    def _section_mem_map(self, section: int) -> int:
        """The word of a section; 0 if the page of the table where it would be is missing."""
        if not self._extreme:
            return self.space.read(self._table + section * self._section_size, self.space.word)
        root = self.space.read(self._table + section // self._per_root * self.space.word, self.space.word)
        return root and self.space.read(root + section % self._per_root * self._section_size, self.space.word)

    def _init_one_section(self, section: int, flags: int) -> None:
        """sparse_init_one_section(): an array of its own, and the word that leads there."""
        array = self._lowmem(self._array_pages)
        code = (array - section * self.section_pages * self.page_struct_size) & self._mask
        root, index = divmod(section, self._per_root)
        table = self._table
        if self._extreme:
            if root not in self._root_pages:
                self._root_pages[root] = self._lowmem(1)
                self.space.write(
                    self._table + root * self.space.word, self.space.word, self._root_pages[root]
                )
            table = self._root_pages[root]
        self.space.write(table + index * self._section_size, self.space.word, code | flags)
        self.arrays[section] = array

    def _lowmem(self, pages: int) -> int:
        return self.space.direct(self.space.memblock.take(pages, self.space.lowmem).start << PAGE_SHIFT)

    def _look_at(self, page: int) -> None:
        """set_page_section(), late.

        A kernel writes the section into all its pages at boot, millions of words on a large machine.  Here the
        pages of a frame get theirs when the first of them is looked at, which nobody can tell from the outside.
        """
        frame = page & -PAGE_SIZE
        index = bisect_right(self._sections_at, (page, self.nr_sections)) - 1
        if index < 0 or frame in self._initialised:
            return
        self._initialised.add(frame)
        array, section = self._sections_at[index]
        size = self.page_struct_size
        first = max(0, -((array - frame) // size))
        last = min(self.section_pages, -((array - frame - PAGE_SIZE) // size))
        word = (section << self._flags.section_shift).to_bytes(4, "little")
        for at in range(array + first * size, array + last * size, size):
            self.space.memory.write(at - self.space.page_offset, word)


def sparse_map(configuration: Configuration, *, extreme: bool = False) -> SparseMap:
    """The map of a SPARSEMEM kernel of this configuration, whatever it says about that.

    :param extreme: with a table of tables, which no i386 kernel has
    :raises UsageError: if no kernel can have it, or it could not boot
    """
    prediction = Prediction(replace(configuration, sparsemem=True))
    space = booted(prediction)
    flag_bits = eras.shown(configuration.marks).section_flag_bits
    assert flag_bits is not None
    return SparseMap(
        space,
        configuration.page_struct_size,
        memmap.present_sections(prediction.configuration, prediction.registered),
        memmap.pages_per_section(prediction.configuration),
        prediction.memmap.flags,
        flag_bits=flag_bits,
        extreme=extreme,
    )

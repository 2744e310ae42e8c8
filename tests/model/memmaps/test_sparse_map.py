"""SPARSEMEM: an array per section, a word that leads to it, and the section in page->flags for the way back."""

from __future__ import annotations

import pytest
from kernel_spaces import kernel_space

from kvmtools.errors import UsageError
from kvmtools.model import machine
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.conversions import Footprint
from kvmtools.model.memmaps.metered_memory import Cost
from kvmtools.model.memmaps.sparse_map import SparseMap, sparse_map
from kvmtools.model.pages.flags_layout import FlagsLayout
from kvmtools.records import E820Entry, Range

MIB, GIB = 1 << 20, 1 << 30
RAM = Range(0, 0x8000)
SECTION = 0x4000
"""64 MiB, as non-PAE kernels have them."""
FLAGS = FlagsLayout(section_shift=26, section_width=6, zone_shift=24, zone_width=2)
TABLE = 0xC0101000
"""The first variable of the space."""


def small(*, size: int = 32, extreme: bool = False, flag_bits: int = 4) -> SparseMap:
    """Sections 0 and 3; each array is 512 KiB at 32 bytes a page, so they are the top MiB of 128."""
    return SparseMap(kernel_space(RAM), size, (0, 3), SECTION, FLAGS, flag_bits=flag_bits, extreme=extreme)


def test_arrays_are_taken_from_the_top() -> None:
    mem_map = small()
    assert mem_map.arrays == {0: 0xC7F80000, 3: 0xC7F00000}
    assert mem_map.space.memblock.free == (Range(0x110, 0x7F00),)
    assert mem_map.kind == "SPARSEMEM"


def test_the_word_is_the_map_less_the_section_start_with_flags_below() -> None:
    """sparse_encode_mem_map(); all four flags of an early section of 5.10 and later."""
    mem_map = small()
    assert mem_map.space.read(TABLE, 4) == 0xC7F80000 | 0xF
    assert mem_map.space.read(TABLE + 3 * 8, 4) == (0xC7F00000 - 3 * SECTION * 32) | 0xF
    assert mem_map.space.read(TABLE + 1 * 8, 4) == 0
    assert small(flag_bits=2).space.read(TABLE, 4) == 0xC7F80000 | 3


def test_the_word_wraps_around() -> None:
    """Pointers are computed modulo 4 GiB: the last section of PAE begins 508 MiB of struct page beyond pfn 0."""
    flags = FlagsLayout(25, 7, 23, 2)
    mem_map = SparseMap(kernel_space(Range(0, 0x20000)), 512, (127,), 0x20000, flags)
    assert (
        mem_map.space.read(TABLE + 127 * 8, 4)
        == ((mem_map.arrays[127] - 127 * 0x20000 * 512) % (1 << 32)) | 0xF
    )
    page = mem_map.pfn_to_page(127 * 0x20000 + 7)
    assert page == mem_map.arrays[127] + 7 * 512


def test_conversions_by_hand() -> None:
    mem_map = small()
    assert mem_map.pfn_to_page(0) == 0xC7F80000
    assert mem_map.pfn_to_page(0x3FFF) == 0xC7F80000 + 0x3FFF * 32
    assert mem_map.pfn_to_page(0xC000) == 0xC7F00000
    assert mem_map.page_to_pfn(0xC7F00000 + 32) == 0xC001
    assert mem_map.page_to_pfn(0xC7F80000 + 0x3FFF * 32) == 0x3FFF
    assert mem_map.virt_to_page(0xC0123456) == mem_map.pfn_to_page(0x123)
    assert mem_map.page_address(mem_map.pfn_to_page(0x123)) == 0xC0123000
    assert mem_map.page_address(mem_map.pfn_to_page(0xC123)) is None


def test_pfn_valid_knows_whole_sections() -> None:
    mem_map = small()
    answers = [(0, True), (0x3FFF, True), (0x4000, False), (0xBFFF, False), (0xC000, True), (0xFFFF, True)]
    for pfn, answer in [
        *answers,
        (0x10000, False),
        (-1, False),
        (64 * SECTION - 1, False),
        (64 * SECTION, False),
    ]:
        assert mem_map.pfn_valid(pfn) is answer, hex(pfn)
    assert mem_map.valid == (Range(0, 0x4000), Range(0xC000, 0x10000))
    assert SparseMap(kernel_space(RAM), 32, (3, 0), SECTION, FLAGS).valid == mem_map.valid


def test_pfn_valid_asks_for_one_flag() -> None:
    """SECTION_HAS_MEM_MAP, bit 1 of section_mem_map (include/linux/mmzone.h)."""
    mem_map = small()
    for word, valid in ((2, True), (0xFFFFFFFD, False)):
        mem_map.space.write(TABLE, 4, word)
        assert mem_map.pfn_valid(0) is valid


def test_what_follows_the_table_is_no_section() -> None:
    mem_map = small()
    mem_map.space.write(mem_map.space.variable(), 4, 0xF)
    assert not mem_map.pfn_valid(64 * SECTION)


def test_flags_are_four_bits_and_no_more() -> None:
    """A map less its section's start may have bit 4 set, if sections are odd enough: 48 bytes before a page."""
    mem_map = SparseMap(kernel_space(RAM), 48, (1,), 1, FLAGS)
    assert mem_map.space.read(TABLE + 8, 4) & 0xFFF == 0xFD0 | 0xF
    assert mem_map.pfn_to_page(1) == mem_map.arrays[1]


def test_only_the_flags_word_is_initialised() -> None:
    mem_map = small()
    page = mem_map.pfn_to_page(0xC001)
    mem_map.space.write(page + 4, 4, 0xFFFFFFFF)
    assert (mem_map.read(page), mem_map.read(page, 4)) == (3 << 26, 0xFFFFFFFF)


def test_the_section_comes_from_page_flags() -> None:
    mem_map = small()
    for pfn, section in ((0, 0), (0xC000, 3), (0xC07F, 3), (0xC080, 3), (0xFFFF, 3)):
        assert mem_map.read(mem_map.pfn_to_page(pfn)) == section << 26


def test_flags_that_were_changed_stay_changed() -> None:
    """Pages get their section when their frame is looked at for the first time, and only then."""
    mem_map = small()
    first, second = mem_map.pfn_to_page(0xC000), mem_map.pfn_to_page(0xC001)
    mem_map.write(first, 0, 3 << 26 | 0x3F)
    assert mem_map.read(first) == 3 << 26 | 0x3F
    assert mem_map.read(second) == 3 << 26
    mem_map.write(second, 28, 1)
    assert (mem_map.read(first), mem_map.read(second, 28)) == (3 << 26 | 0x3F, 1)


def test_only_struct_pages_get_a_section() -> None:
    """3 of 20000 bytes do not fill their pages; what lies around them is left alone."""
    flags = FlagsLayout(30, 2, 28, 2)
    mem_map = SparseMap(kernel_space(RAM), 1000, (1, 2), 10, flags)
    array = mem_map.arrays[2]
    mem_map.read(array + 3000)
    written = [at for at in range(0, 0x4000, 4) if mem_map.space.read(array - 0x1000 + at, 4)]
    assert written == [0x1000 + at for at in range(0, 4096, 1000)]
    mem_map.read(array + 9000)
    written = [at for at in range(0, 0x4000, 4) if mem_map.space.read(array + at, 4)]
    assert written == [0, 1000, 2000, 3000, 4000, 9000]
    assert mem_map.space.read(mem_map.arrays[1] + 9000, 4) == 0
    assert mem_map.page_to_pfn(array + 5000) == 25


def test_a_page_of_an_absent_section_is_nonsense() -> None:
    """Its word is 0, so the kernel computes an address of user space."""
    mem_map = small()
    page = mem_map.pfn_to_page(0x4001)
    assert page == 0x4001 * 32
    with pytest.raises(Unmapped, match="the SPARSEMEM map has no struct page at 0x80020"):
        mem_map.read(page)
    with pytest.raises(Unmapped):
        mem_map.page_to_pfn(page)


def test_a_pfn_beyond_the_table_is_refused() -> None:
    mem_map = small()
    mem_map.pfn_to_page(64 * SECTION - 1)
    for pfn in (64 * SECTION, -1):
        with pytest.raises(UsageError, match="is beyond the last section") as caught:
            mem_map.pfn_to_page(pfn)
    assert caught.value.hint == "64 sections of 0x4000 pages are all that there can be"


def test_an_address_that_is_no_struct_page_is_refused() -> None:
    mem_map = small()
    with pytest.raises(UsageError, match="0xc7f80010 is no struct page: it is 16 bytes into one") as caught:
        mem_map.page_to_pfn(0xC7F80010)
    assert caught.value.hint == "the one that begins before it is at 0xc7f80000"
    with pytest.raises(UsageError, match="0xc0200000 is no struct page") as caught:
        mem_map.page_to_pfn(0xC0200000)
    assert caught.value.hint == "it is in none of the sections' arrays"


def test_the_way_back_reads_the_page_too() -> None:
    """One look-up in the static table, and for the way from struct page to pfn page->flags before it."""
    mem_map = small()
    page = mem_map.pfn_to_page(0x123)
    lookup, flags = Cost(1, 1, 1), Cost(2, 2, 2)
    assert mem_map.cost("pfn_valid", 0x123) == lookup
    assert mem_map.cost("pfn_to_page", 0x123) == lookup
    assert mem_map.cost("virt_to_page", 0xC0123000) == lookup
    assert mem_map.cost("page_to_pfn", page) == flags
    assert mem_map.cost("page_address", page) == flags
    assert mem_map.cost("read", page) == Cost(1, 1, 1)


def test_a_table_of_tables_costs_two_look_ups_and_a_flags_read() -> None:
    """Lameter's figure of 24 September 2006, for SPARSEMEM_EXTREME."""
    mem_map = small(extreme=True)
    page = mem_map.pfn_to_page(0x123)
    assert mem_map.cost("pfn_valid", 0x123).references == 2
    assert mem_map.cost("pfn_to_page", 0x123).references == 2
    assert mem_map.cost("page_to_pfn", page).references == 3
    # The image is in the first large page; the page of the table and the arrays are in the last.
    assert mem_map.cost("page_to_pfn", page) == Cost(3, 2, 2)
    assert mem_map.cost("virt_to_page", 0xC0123000) == Cost(2, 2, 2)


def test_a_table_of_tables_has_pages_where_sections_are() -> None:
    """512 sections of 8 bytes to a page; of 8192 sections, 3, 511 and 600 are there."""
    flags = FlagsLayout(19, 13, 17, 2)
    mem_map = SparseMap(kernel_space(RAM), 32, (3, 511, 600), 16, flags, extreme=True)
    for section in (3, 511, 600):
        pfn = section * 16 + 5
        assert mem_map.pfn_valid(pfn)
        assert mem_map.pfn_to_page(pfn) == mem_map.arrays[section] + 5 * 32
        assert mem_map.page_to_pfn(mem_map.arrays[section] + 5 * 32) == pfn
    for section in (0, 4, 510, 512, 599, 601, 1024, 8191, 8192):
        assert not mem_map.pfn_valid(section * 16), section
    assert mem_map.cost("pfn_valid", 1024 * 16).references == 1
    assert mem_map.space.memblock.free == (Range(0x110, 0x8000 - 5),)
    assert mem_map.footprint == Footprint(
        struct_pages=3 * 4096, window=0, lowmem=5 * 4096, highmem=0, page_tables=0, static=16 * 4
    )


def test_what_it_takes() -> None:
    assert small().footprint == Footprint(
        struct_pages=MIB, window=0, lowmem=MIB, highmem=0, page_tables=0, static=64 * 8
    )
    odd = SparseMap(kernel_space(RAM), 1000, (1, 2), 10, FLAGS)
    assert (odd.footprint.struct_pages, odd.footprint.lowmem) == (6 * 4096, 6 * 4096)


def test_no_room_for_an_array() -> None:
    with pytest.raises(UsageError, match="no room for 512 KiB in one piece"):
        SparseMap(kernel_space(Range(0, 0x180)), 32, (0,), SECTION, FLAGS)


@pytest.mark.parametrize(
    ("era", "pae", "sections", "section_mib"),
    [("2.6.18", True, 64, 1024), ("2.6.32", True, 128, 512), ("6.1", True, 128, 512), ("6.1", False, 64, 64)],
)
def test_sections_by_era(era: str, pae: bool, sections: int, section_mib: int) -> None:
    """arch/x86/include/asm/sparsemem.h: FACTS C.2."""
    mem_map = sparse_map(machine.configuration(era, pae=pae, memory=GIB))
    assert mem_map.nr_sections == sections
    assert mem_map.section_pages == section_mib << 8
    flag_bits = 2 if era < "5" else 4
    word = mem_map.space.read(mem_map.space.variable() - sections * 8, 4)
    assert word & 0xFFF == (1 << flag_bits) - 1


def test_2_4_has_none() -> None:
    with pytest.raises(UsageError, match=r"2\.4 has no SPARSEMEM"):
        sparse_map(machine.configuration("2.4", memory=GIB))


def test_a_hole_of_whole_sections_is_free() -> None:
    """2 GiB of RAM at 0 and 2 GiB at 32 GiB: 8 sections of 4 MiB; FLATMEM would take 1088 MiB (FACTS F)."""
    e820 = (E820Entry(0, 0x9F000, 1), E820Entry(MIB, 2 * GIB - MIB, 1), E820Entry(32 * GIB, 2 * GIB, 1))
    mem_map = sparse_map(machine.configuration("6.1", e820=e820))
    assert sorted(mem_map.arrays) == [0, 1, 2, 3, 64, 65, 66, 67]
    assert mem_map.footprint.lowmem == 32 * MIB
    assert mem_map.valid == (Range(0, 0x80000), Range(0x800000, 0x880000))


def test_extreme_by_configuration() -> None:
    configuration = machine.configuration("6.1", memory=GIB)
    assert sparse_map(configuration).cost("pfn_valid", 1).references == 1
    assert sparse_map(configuration, extreme=True).cost("pfn_valid", 1).references == 2

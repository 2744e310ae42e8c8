"""The virtual mem_map: its conversions, and which pfns it makes valid, with neighbours on a leaf and straddlers."""

from __future__ import annotations

import pytest
from virtual_maps import START, small

from kvmtools.errors import UsageError
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.conversions import Footprint
from kvmtools.model.memmaps.virtual_map import VirtualMap
from kvmtools.records import Range

KIB, MIB = 1 << 10, 1 << 20


def both_tests(mem_map: VirtualMap, pfn: int) -> bool:
    """The walk and the fault-probe, which must agree."""
    valid = mem_map.pfn_valid(pfn)
    assert mem_map.pfn_valid_by_fault(pfn) is valid
    return valid


def test_conversions_are_arithmetic_on_a_constant() -> None:
    mem_map = small(Range(0, 0x8000))
    assert mem_map.pfn_to_page(0x123) == START + 0x123 * 32
    assert mem_map.page_to_pfn(START + 0x123 * 32) == 0x123
    assert mem_map.virt_to_page(0xC0123FFF) == START + 0x123 * 32
    assert mem_map.page_address(START + 0x123 * 32) == 0xC0123000
    assert mem_map.page_address(START + 0x8000 * 32) is None
    assert mem_map.kind == "virtual"


def test_an_address_outside_the_window_is_no_struct_page() -> None:
    mem_map = small(pages=1000)
    assert mem_map.page_to_pfn(START + 999 * 32) == 999
    for page in (START + 1000 * 32, START - 32):
        with pytest.raises(UsageError, match=f"{page:#x} is not in the virtual mem_map") as caught:
            mem_map.page_to_pfn(page)
    assert caught.value.hint == "its window is 0xe0000000-0xe0200000"
    with pytest.raises(UsageError, match="it is 4 bytes into one"):
        mem_map.page_to_pfn(START + 36)


def test_an_address_outside_lowmem_has_no_page() -> None:
    mem_map = small()
    assert mem_map.virt_to_page(0xC7FFFFFF) == START + 0x7FFF * 32
    for address in (0xC8000000, 0xBFFFFFFF):
        with pytest.raises(UsageError, match=f"{address:#x} is not in lowmem") as caught:
            mem_map.virt_to_page(address)
    assert caught.value.hint == "lowmem is 0xc0000000-0xc8000000"


def test_nothing_is_valid_before_it_is_added() -> None:
    mem_map = small()
    assert mem_map.valid == ()
    assert not both_tests(mem_map, 0)
    with pytest.raises(Unmapped, match="the virtual map has no struct page at 0xe0000000"):
        mem_map.read(START)


def test_neighbours_on_a_leaf_are_valid_too() -> None:
    """128 struct pages of 32 bytes are on a page, so two pfns at the border of two pages make 256 valid."""
    mem_map = small(Range(0x1FF, 0x201), Range(0x1000, 0x1001))
    assert mem_map.valid == (Range(0x180, 0x280), Range(0x1000, 0x1001))
    answers = [(0x17F, False), (0x180, True), (0x27F, True), (0x280, False), (0xFFF, False), (0x1000, True)]
    for pfn, answer in [*answers, (0x1001, False), (-1, False)]:
        assert both_tests(mem_map, pfn) is answer, hex(pfn)


def test_max_pfn_ends_what_is_valid_though_the_leaf_goes_on() -> None:
    """The mail: pfn < max_pfn && valid_page_table_entry(pfn)."""
    mem_map = small(Range(0, 5))
    assert mem_map.valid == (Range(0, 5),)
    assert mem_map.read(mem_map.pfn_to_page(127)) == 0
    assert not both_tests(mem_map, 5)
    mem_map.add(0x100, 0x101)
    assert both_tests(mem_map, 127)
    assert not both_tests(mem_map, 128)
    mem_map.add(3, 4)
    assert both_tests(mem_map, 0x100), "max_pfn does not shrink"


def test_a_large_leaf_has_many_neighbours() -> None:
    """2 MiB hold 65536 struct pages of 32 bytes, those of 256 MiB."""
    mem_map = small(Range(0x8000, 0x8001), Range(0x1FFFF, 0x20000), leaf=2 * MIB)
    assert mem_map.valid == (Range(0, 0x20000),)
    assert both_tests(mem_map, 0)
    assert mem_map.footprint.lowmem == 4 * MIB
    four = small(Range(0x8000, 0x8001), Range(0x1FFFF, 0x20000), leaf=4 * MIB, with_pae=False)
    assert four.valid == (Range(0, 0x20000),)
    assert four.footprint == Footprint(4 * MIB, 4 * MIB, 4 * MIB, 0, 0, 4)


@pytest.mark.parametrize(("leaf", "whole"), [(4 * KIB, False), (2 * MIB, True)])
def test_blocks_of_max_order_are_whole_from_32_kib_on(leaf: int, whole: bool) -> None:
    """Whitcroft's constraint: 1024 struct pages, 32 KiB, contiguous and present; RAM ends within a block here."""
    mem_map = small(Range(0, 0x2010), Range(0x8000, 0x8400), leaf=leaf)
    assert mem_map.pfn_valid(0x200F)
    assert mem_map.pfn_valid(0x23FF) is whole
    if whole:
        assert mem_map.read(mem_map.pfn_to_page(0x23FF)) == 0
    else:
        with pytest.raises(Unmapped):
            mem_map.read(mem_map.pfn_to_page(0x23FF))


def test_a_struct_page_that_straddles_needs_both_leaves() -> None:
    """40 bytes: pfn 102 lies at 4080 to 4119, on the first page and the second."""
    first = small(Range(0, 102), Range(300, 301), size=40)
    assert not both_tests(first, 102)
    assert both_tests(first, 101)
    both = small(Range(0, 103), Range(400, 401), size=40)
    assert both_tests(both, 102)
    # The next straddler is pfn 204, at 8160 to 8199; the third page is not there.
    assert both.valid[0] == Range(0, 204)
    second = small(Range(103, 104), Range(400, 401), size=40)
    assert not both_tests(second, 102)
    assert both_tests(second, 103)
    assert second.valid[0] == Range(103, 204)


def test_one_byte_on_another_leaf_counts() -> None:
    """33 bytes: 993 of them end one byte into the ninth page."""
    assert 993 * 33 == 8 * 4096 + 1
    mem_map = small(Range(0, 992), Range(2000, 2001), size=33)
    assert both_tests(mem_map, 991)
    assert not both_tests(mem_map, 992)


def test_a_block_that_straddles_is_not_whole_even_in_large_leaves() -> None:
    """40 bytes: 2 MiB end within pfn 52428, and so within the block of 1024 that begins at 52224."""
    mem_map = small(Range(0, 52300), size=40, leaf=2 * MIB)
    assert 52224 % 1024 == 0
    assert both_tests(mem_map, 52299)
    mem_map.read(mem_map.pfn_to_page(52427), 36)
    with pytest.raises(Unmapped):
        mem_map.read(mem_map.pfn_to_page(52429), 0)

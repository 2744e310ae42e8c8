"""FLATMEM: one array, two variables, one load for every conversion."""

from __future__ import annotations

import pytest
from kernel_spaces import kernel_space

from kvmtools.errors import UsageError
from kvmtools.model import machine
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.conversions import Footprint
from kvmtools.model.memmaps.flat_map import FlatMap, flat_map
from kvmtools.model.memmaps.metered_memory import Cost
from kvmtools.records import E820Entry, Range

MIB, GIB = 1 << 20, 1 << 30
RAM = Range(0, 0x8000)
"""128 MiB."""


def small() -> FlatMap:
    """0x8000 entries of 32 bytes are 1 MiB, which memblock puts at the very end of 128 MiB."""
    return FlatMap(kernel_space(RAM), 32, 0x8000, 0x7FF0)


def test_the_array_is_at_the_top_of_lowmem() -> None:
    mem_map = small()
    assert mem_map.base == 0xC8000000 - MIB
    assert mem_map.space.memblock.free == (Range(0x110, 0x7F00),)
    assert mem_map.kind == "FLATMEM"


def test_conversions_by_hand() -> None:
    mem_map = small()
    assert mem_map.pfn_to_page(0) == 0xC7F00000
    assert mem_map.pfn_to_page(0x123) == 0xC7F00000 + 0x123 * 32
    assert mem_map.page_to_pfn(0xC7F00000 + 0x123 * 32) == 0x123
    assert mem_map.virt_to_page(0xC0123FFF) == mem_map.pfn_to_page(0x123)
    assert mem_map.page_address(mem_map.pfn_to_page(0x123)) == 0xC0123000


def test_pfn_valid_is_a_comparison() -> None:
    mem_map = small()
    assert mem_map.pfn_valid(0)
    assert mem_map.pfn_valid(0x7FEF)
    assert not mem_map.pfn_valid(0x7FF0)
    assert not mem_map.pfn_valid(-1)
    assert mem_map.valid == (Range(0, 0x7FF0),)


def test_the_tail_has_struct_pages_that_are_not_valid() -> None:
    """Whitcroft: contiguous and present out to MAX_ORDER, whatever pfn_valid says."""
    mem_map = small()
    page = mem_map.pfn_to_page(0x7FFF)
    assert mem_map.read(page) == 0
    assert mem_map.page_to_pfn(page) == 0x7FFF


def test_the_kernel_computes_what_it_is_asked() -> None:
    """Beyond the array, and around the end of the address space."""
    mem_map = small()
    page = mem_map.pfn_to_page(0x8000)
    assert page == 0xC8000000
    with pytest.raises(Unmapped, match="the FLATMEM map has no struct page at 0xc8000000"):
        mem_map.read(page)
    assert mem_map.pfn_to_page(1 << 27) == mem_map.base
    with pytest.raises(UsageError, match="0xc8000000 is not in mem_map") as caught:
        mem_map.page_to_pfn(page)
    assert caught.value.hint == "mem_map is 0xc7f00000-0xc8000000"
    with pytest.raises(UsageError, match="is not in mem_map"):
        mem_map.page_to_pfn(mem_map.base - 32)


def test_fields_are_read_and_written_through_the_page() -> None:
    mem_map = small()
    page = mem_map.pfn_to_page(5)
    mem_map.write(page, 28, 0xDEADBEEF)
    assert mem_map.read(page, 28) == 0xDEADBEEF
    assert mem_map.space.memory.read(0x7F00000 + 5 * 32 + 28, 4) == bytes.fromhex("efbeadde")
    with pytest.raises(Unmapped, match="no struct page at 0xc8000000") as caught:
        mem_map.write(0xC8000000, 28, 1)
    assert caught.value.address == 0xC800001C


def test_fields_are_32_bits_wide() -> None:
    mem_map = small()
    page = mem_map.pfn_to_page(5)
    mem_map.write(page, 4, 0xFFFFFFFF)
    mem_map.write(page, 0, 1)
    assert (mem_map.read(page), mem_map.read(page, 4)) == (1, 0xFFFFFFFF)


def test_every_conversion_is_one_load_of_a_variable() -> None:
    """The image is in the first large page, the array in the last: nothing needs both."""
    mem_map = small()
    page = mem_map.pfn_to_page(0x123)
    arguments = {
        "pfn_valid": 0x123,
        "pfn_to_page": 0x123,
        "page_to_pfn": page,
        "virt_to_page": 0xC0123000,
        "page_address": page,
        "read": page,
    }
    assert tuple(arguments) == mem_map.operations
    for operation, argument in arguments.items():
        assert mem_map.cost(operation, argument) == Cost(1, 1, 1), operation


def test_what_it_takes() -> None:
    assert small().footprint == Footprint(
        struct_pages=MIB, window=0, lowmem=MIB, highmem=0, page_tables=0, static=8
    )
    odd = FlatMap(kernel_space(RAM), 36, 1024, 1000)
    assert (odd.footprint.struct_pages, odd.footprint.lowmem) == (36864, 36864)
    odder = FlatMap(kernel_space(RAM), 36, 1000, 1000)
    assert (odder.footprint.struct_pages, odder.footprint.lowmem) == (36000, 36864)
    assert odder.base == 0xC8000000 - 36864


def test_no_room_for_the_array() -> None:
    with pytest.raises(UsageError, match="no room for 1024 KiB in one piece"):
        FlatMap(kernel_space(Range(0, 0x180)), 32, 0x8000, 0x180)


def test_64_gib_take_an_eighth_of_all_virtual_space() -> None:
    """Lameter, 24 September 2006: 16 Mi pages of 32 bytes are 512 MB."""
    size = flat_map(machine.configuration("6.1", memory=64 * GIB)).footprint.struct_pages
    assert size == 512 * MIB == (4 * GIB) // 8


def test_the_pci_hole_is_paid_for() -> None:
    """QEMU has 4 GiB of RAM end at 5 GiB: what lies between takes 8 MiB more than the RAM does."""
    assert flat_map(machine.configuration("6.1", memory=4 * GIB)).footprint.struct_pages == 40 * MIB


def test_four_gib_without_a_hole_take_32_mib() -> None:
    """Lameter again: 1 Mi pages, 32 MB."""
    e820 = (E820Entry(0, 0x9F000, 1), E820Entry(MIB, 4 * GIB - MIB, 1))
    assert flat_map(machine.configuration("6.1", e820=e820)).footprint.struct_pages == 32 * MIB


def test_64_gib_of_larger_struct_pages_do_not_boot() -> None:
    """64 bytes as on 64-bit would be 1 GiB of lowmem, more than there is."""
    with pytest.raises(UsageError, match="no room for 1048576 KiB in one piece"):
        flat_map(machine.configuration("6.1", memory=64 * GIB, page_struct_size=64))


def test_the_end_is_rounded_to_the_largest_block() -> None:
    """alloc_node_mem_map: 1024 pages; RAM of QEMU's 512 MiB ends 128 KiB early."""
    mem_map = flat_map(machine.configuration("6.1", memory=512 * MIB))
    assert (mem_map.length, mem_map.max_mapnr) == (0x20000, 0x1FFE0)
    assert mem_map.page_struct_size == 32


def test_7_2_calls_the_tail_valid() -> None:
    """mm/mm_init.c, 7.2: max_mapnr = end - start, which is rounded."""
    assert flat_map(machine.configuration("7.2", memory=512 * MIB)).valid == (Range(0, 0x20000),)


def test_2_4_rounds_nothing() -> None:
    """free_area_init_core: one entry more than there are pages."""
    mem_map = flat_map(machine.configuration("2.4", memory=512 * MIB))
    assert mem_map.max_mapnr == 0x1FFE0
    assert mem_map.length == 0x1FFE1


def test_a_sparse_configuration_is_taken_as_if_it_were_flat() -> None:
    assert flat_map(machine.configuration("6.1", memory=GIB, sparsemem=True)).length == 0x40000

"""x86_64's map is the same code: another window, another form of paging."""

from __future__ import annotations

import pytest

from kvmtools.errors import UsageError
from kvmtools.model.memmaps import vmemmap as x86_64
from kvmtools.model.memmaps.conversions import Footprint
from kvmtools.model.memmaps.metered_memory import Cost, TlbEntry
from kvmtools.model.memmaps.virtual_map import VirtualMap
from kvmtools.model.memmaps.vmemmap import vmemmap
from kvmtools.model.paging.walk import walk
from kvmtools.records import Range

MIB, GIB = 1 << 20, 1 << 30
VMEMMAP = 0xFFFFEA0000000000
"""Documentation/x86/x86_64/mm.rst: ffffea0000000000 to ffffeaffffffffff, 1 TB, virtual memory map."""
RAM = (Range(0, 0x30000), Range(0x100000, 0x102100))
"""768 MiB, and 33 MiB from 4 GiB on, which are part of one section."""


def test_the_window_is_a_tebibyte_at_vmemmap_start() -> None:
    made = vmemmap(RAM)
    assert isinstance(made, VirtualMap)
    assert made.window == Range(VMEMMAP, 0xFFFFEAFFFFFFFFFF + 1)
    assert made.pages * 4096 == 64 * 1024 * GIB
    assert made.pfn_to_page(0x100000) == VMEMMAP + 0x4000000
    assert made.page_to_pfn(VMEMMAP + 0x4000000) == 0x100000
    assert made.virt_to_page(0xFFFF888000001234) == VMEMMAP + 64
    assert made.page_address(VMEMMAP + 64) == 0xFFFF888000001000


def test_a_section_fills_a_leaf_to_the_last_byte() -> None:
    """128 MiB of memory are 32768 pages; at 64 bytes those are 2 MiB."""
    assert x86_64.SECTION_PAGES * x86_64.PAGE_STRUCT_SIZE == x86_64.LEAF == 2 * MIB
    made = vmemmap(RAM)
    assert made.valid == (Range(0, 0x30000), Range(0x100000, 0x108000))
    for pfn, valid in (
        (0x2FFFF, True),
        (0x30000, False),
        (0xFFFFF, False),
        (0x107FFF, True),
        (0x108000, False),
    ):
        assert made.pfn_valid(pfn) is made.pfn_valid_by_fault(pfn) is valid, hex(pfn)


def test_the_map_is_six_and_one_leaves() -> None:
    made = vmemmap(RAM)
    space = made.space
    leaves = list(walk(space.memory.read, space.tables.root, space.form, VMEMMAP, VMEMMAP + (1 << 40)))
    assert [leaf.virtual - VMEMMAP for leaf in leaves] == [n * 2 * MIB for n in (0, 1, 2, 3, 4, 5, 32)]
    assert {leaf.size for leaf in leaves} == {2 * MIB}
    # One table of each of the two levels between root and leaves.
    assert made.footprint == Footprint(14 * MIB, 1 << 40, 14 * MIB + 8192, 0, 8192, 8)


def test_costs() -> None:
    """pfn_valid reads max_pfn and an entry of three levels; the walk of a 2 MiB leaf is three entries."""
    made = vmemmap(RAM)
    assert made.cost("pfn_to_page", 1) == Cost(0, 0, 0)
    assert made.cost("read", VMEMMAP) == Cost(1, 1, 3)
    assert made.cost("pfn_valid", 1).references == 4
    assert made.cost("pfn_valid", 0x48000).references == 4


def test_the_direct_map_has_large_pages_where_ram_fills_them() -> None:
    space = vmemmap(RAM).space
    base = 0xFFFF888000000000
    assert space.leaf(base + 0x12345678) == TlbEntry(base + 0x12200000, 0x12200000, 2 * MIB)
    assert space.leaf(base + 0x102000000) == TlbEntry(base + 0x102000000, 0x102000000, 4096)
    assert space.leaf(base + 0x101FFFFFF) == TlbEntry(base + 0x101E00000, 0x101E00000, 2 * MIB)


def test_pointers_have_64_bits() -> None:
    made = vmemmap(RAM)
    with pytest.raises(UsageError, match="0xffffea0000000001 is no struct page"):
        made.page_to_pfn(VMEMMAP + 1)
    with pytest.raises(UsageError, match="is not in the virtual mem_map"):
        made.page_to_pfn(VMEMMAP - 64)

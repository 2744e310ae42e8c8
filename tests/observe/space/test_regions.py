"""Every address has a region, and slots have their names."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.observe.space.modules import Module
from kvmtools.observe.space.regions import REGION_NAMES, Regions
from kvmtools.records import Layout, Range

PAGE = 4096
END = 1 << 32
LAYOUT = Layout(
    page_offset=0xC000_0000,
    high_memory=0xF75F_E000,
    vmalloc_start=0xF7DF_E000,
    vmalloc_end=0xFF5F_E000,
    pkmap_base=0xFF60_0000,
    last_pkmap=512,
    ldt_base=0xFF80_0000,
    cpu_entry_area_base=0xFFA0_0000,
    fixaddr_top=0xFFFF_F000,
)
SECTIONS = {
    "_text": 0xC100_0000,
    "_etext": 0xC128_C3E8,
    "__start_rodata": 0xC128_D000,
    "__end_rodata": 0xC138_8000,
    "_end": 0xC15D_9000,
}
FIXED = {
    "FIX_HOLE": 0,
    "FIX_DBGP_BASE": 1,
    "FIX_IO_APIC_BASE_0": 5,
    "FIX_IO_APIC_BASE_END": 8,
    "FIX_KMAP_BEGIN": 9,
    "FIX_KMAP_END": 72,
    "__end_of_permanent_fixed_addresses": 73,
    "FIX_BTMAP_END": 512,
    "FIX_BTMAP_BEGIN": 1023,
    "FIX_WP_TEST": 1024,
    "__end_of_fixed_addresses": 1025,
}


@pytest.fixture
def regions() -> Regions:
    return Regions(LAYOUT, SECTIONS, FIXED, end=END, nr_cpus=4, entry_area_size=43 * PAGE)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0, "user"),
        (0xBFFF_FFFF, "user"),
        (0xC000_0000, "direct map"),
        (0xC0FF_FFFF, "direct map"),
        (0xC100_0000, "kernel text"),
        (0xC128_C3E7, "kernel text"),
        (0xC128_C3E8, "kernel image"),
        (0xC128_D000, "kernel rodata"),
        (0xC15D_8FFF, "kernel image"),
        (0xC15D_9000, "direct map"),
        (0xF75F_E000, "gap below vmalloc"),
        (0xF7DF_E000, "vmalloc"),
        (0xFF5F_E000, "gap above vmalloc"),
        (0xFF60_0000, "pkmap slot 0"),
        (0xFF7F_FFFF, "pkmap slot 511"),
        (0xFF80_0000, "LDT"),
        (0xFFA0_0000, "CPU entry area, IDT"),
        (0xFFA0_1000, "CPU entry area of CPU 0"),
        (0xFFA0_1000 + 43 * PAGE, "CPU entry area of CPU 1"),
        (0xFFA0_1000 + 4 * 43 * PAGE - 1, "CPU entry area of CPU 3"),
        (0xFFA0_1000 + 4 * 43 * PAGE, "unused"),
        (0xFFFF_F000 - 1024 * PAGE, "fixmap slot FIX_WP_TEST"),
        (0xFFFF_F000 - 600 * PAGE, "fixmap slot FIX_BTMAP_END+88"),
        (0xFFFF_F000 - 72 * PAGE, "fixmap slot FIX_KMAP of CPU 3, index 15"),
        (0xFFFF_F000 - 9 * PAGE, "fixmap slot FIX_KMAP of CPU 0, index 0"),
        (0xFFFF_F000 - 6 * PAGE + 0xABC, "fixmap slot FIX_IO_APIC_BASE_0+1"),
        (0xFFFF_F000 - 1 * PAGE, "fixmap slot FIX_DBGP_BASE"),
        (0xFFFF_FFFF, "fixmap slot FIX_HOLE"),
    ],
)
def test_names(regions: Regions, address: int, name: str) -> None:
    assert regions.describe(address) == name


def test_the_whole_address_space_is_covered_once(regions: Regions) -> None:
    found = list(regions)
    assert (found[0].start, found[-1].end) == (0, END)
    assert all(one.end == other.start and one.name != other.name for one, other in pairwise(found))
    assert {region.name for region in found} <= set(REGION_NAMES)


@given(st.integers(0, END - 1))
def test_find_is_the_region_around_it(address: int) -> None:
    region = Regions(LAYOUT, SECTIONS, FIXED, end=END, nr_cpus=4, entry_area_size=43 * PAGE).find(address)
    assert region.start <= address < region.end


def test_unknown_boundaries_take_the_next_best() -> None:
    blind = replace(LAYOUT, vmalloc_start=None, vmalloc_end=None, ldt_base=None, cpu_entry_area_base=None)
    regions = Regions(blind, {}, FIXED, end=END)
    assert regions.describe(0xF800_0000) == "vmalloc"
    assert regions.describe(0xFF60_0000) == "unused"  # nothing says where pkmap ends
    assert regions.describe(0xFFFF_E000) == "fixmap slot FIX_DBGP_BASE"
    assert [region.name for region in Regions(Layout(), {}, {}, end=END)] == ["unused"]


def test_a_module_is_a_region_within_vmalloc() -> None:
    module = Module("kvmtools", (Range(0xF7E1_0000, 0xF7E1_2000), Range(0xF7E1_4000, 0xF7E1_5000)))
    regions = Regions(LAYOUT, SECTIONS, FIXED, end=END, modules=(module,))
    assert regions.describe(0xF7E1_1FFF) == "module kvmtools"
    assert regions.describe(0xF7E1_2000) == "vmalloc"
    assert regions.describe(0xF7E1_4000) == "module kvmtools"

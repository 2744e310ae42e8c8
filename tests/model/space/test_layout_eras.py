"""The address space of every era.  Numbers are worked by hand from the formulas of FACTS A.1, never from our output."""

from __future__ import annotations

from typing import Any

import pytest
from layouts import predict

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.machine import configuration
from kvmtools.records import E820Entry, Layout

MIB, GIB = 1 << 20, 1 << 30


def layout(era: str, **changes: Any) -> Layout:
    return predict(configuration(era, **changes))


@pytest.mark.parametrize(("pae", "slots"), [(False, 1024), (True, 512)])
def test_gorman_10_1(pae: bool, slots: int) -> None:
    """Gorman 10.1: "PKMAP_BASE is at 0xFE000000", FIXADDR_START is "only a few pages" below the top, so there is
    "slightly below 32MiB" for pkmap, of which a single page of PTEs serves "1024 high pages", 512 with PAE."""
    found = layout("2.4", pae=pae, memory=2 * GIB)
    assert found.pkmap_base == 0xFE000000
    assert found.last_pkmap == slots
    assert found.fixaddr_start is not None
    room = found.fixaddr_start - 0xFE000000
    assert 31 * MIB < room < 32 * MIB
    table = 4096 // (8 if pae else 4)
    assert slots == table


def test_2_4_from_the_top_down() -> None:
    """FACTS A.1: fixed fixmap, 896 MiB of lowmem exactly, VMALLOC_START on a boundary of 8 MiB."""
    found = layout("2.4", pae=False, memory=2 * GIB, fixmap_slots=(16, 16))
    assert found == Layout(
        page_offset=0xC0000000,
        high_memory=0xF8000000,
        vmalloc_start=0xF8800000,
        vmalloc_end=0xFDFFE000,
        pkmap_base=0xFE000000,
        last_pkmap=1024,
        fixaddr_tot_start=0xFFFFE000 - 16 * 4096,
        fixaddr_start=0xFFFEE000,
        fixaddr_top=0xFFFFE000,
        max_low_pfn=0x38000,
        max_pfn=0x7FFE0,
        highstart_pfn=0x38000,
        highend_pfn=0x7FFE0,
        max_mapnr=0x7FFE0,
    )


def test_2_4_without_highmem_has_vmalloc_up_to_the_fixmap() -> None:
    found = layout("2.4", pae=False, highmem=False, memory=2 * GIB, fixmap_slots=(16, 16))
    assert found.vmalloc_end == 0xFFFEE000 - 0x2000
    assert found.pkmap_base is None
    assert (found.max_low_pfn, found.max_pfn, found.highend_pfn) == (0x38000, 0x38000, None)


@pytest.mark.parametrize(
    ("pae", "pkmap_base"),
    [
        # 100 slots: the boot-time fixmap begins at 0xfffff000 - 100 pages = 0xfff9b000.
        # 0xfff9b000 - 1025 pages = 0xffb9a000, down to 4 MiB.
        (False, 0xFF800000),
        # 0xfff9b000 - 513 pages = 0xffd9a000, down to 2 MiB.
        (True, 0xFFC00000),
    ],
)
@pytest.mark.parametrize("era", ["2.6.18", "2.6.24", "2.6.32"])
def test_2_6_puts_pkmap_under_the_fixmap(era: str, pae: bool, pkmap_base: int) -> None:
    found = layout(era, pae=pae, fixmap_slots=(83, 100))
    assert found.fixaddr_tot_start == 0xFFF9B000
    assert found.pkmap_base == pkmap_base
    assert found.vmalloc_end == pkmap_base - 0x2000
    assert found.ldt_base is None
    assert found.ldt_end is None
    assert found.cpu_entry_area_base is None
    assert found.cpu_entry_area_end is None


def test_pkmap_and_a_page_must_fit_under_the_fixmap() -> None:
    """FIXADDR_BOOT_START - PAGE_SIZE*(LAST_PKMAP + 1): if the fixmap ends where a table begins, a whole table stays
    free between them."""
    assert layout("2.6.18", fixmap_slots=(83, 511)).pkmap_base == 0xFFA00000  # boot start 0xffe00000
    assert layout("2.6.18", fixmap_slots=(83, 510)).pkmap_base == 0xFFC00000  # 0xffe01000: one page to spare


@pytest.mark.parametrize(
    ("era", "max_low_pfn"),
    [
        # -PAGE_OFFSET - 128 MiB.
        ("2.4", 0x38000),
        ("2.6.18", 0x38000),
        ("2.6.24", 0x38000),
        # VMALLOC_END 0xffbfe000 - PAGE_OFFSET - 128 MiB.
        ("2.6.32", 0x37BFE),
    ],
)
def test_maxmem(era: str, max_low_pfn: int) -> None:
    assert layout(era, fixmap_slots=(83, 100)).max_low_pfn == max_low_pfn


@pytest.mark.parametrize(
    ("era", "memory", "vmalloc_start"),
    [
        # 511.875 MiB end at 0xdffe0000: 8 MiB more are 0xe07e0000, and up to a multiple of 8 MiB.
        ("2.4", 512 * MIB, 0xE0800000),
        ("2.6.18", 512 * MIB, 0xE0800000),
        ("2.6.24", 512 * MIB, 0xE0800000),
        ("2.6.32", 512 * MIB, 0xE07E0000),
        ("5.10", 512 * MIB, 0xE07E0000),
        # A multiple of 8 MiB is left alone: the hole is 8 MiB exactly, and a page more makes it almost 16.
        ("2.4", 512 * MIB + 0x20000, 0xE0800000),
        ("2.4", 512 * MIB + 0x21000, 0xE1000000),
    ],
)
def test_the_hole_below_vmalloc(era: str, memory: int, vmalloc_start: int) -> None:
    assert layout(era, memory=memory).vmalloc_start == vmalloc_start


@pytest.mark.parametrize(
    ("era", "max_low_pfn"),
    [
        ("2.4", 0x38000),  # the option is unknown: 896 MiB
        ("2.6.18", 0x30000),  # 4 GiB - 3 GiB - 256 MiB
        ("2.6.24", 0x30000),
        ("2.6.32", (0xFFBFE000 - 0xC0000000 - 264 * MIB) >> 12),  # the hole of 8 MiB comes on top
    ],
)
def test_the_option_vmalloc(era: str, max_low_pfn: int) -> None:
    found = layout(era, command_line="vmalloc=256M", fixmap_slots=(83, 100))
    assert found.max_low_pfn == max_low_pfn


@pytest.mark.parametrize(
    ("era", "top", "max_low_pfn"),
    [
        ("2.4", 0xFFFFE000, 0x38000),
        ("2.6.18", 0xFFFFF000, 0x38000),
        # -reserve - PAGE_SIZE; __VMALLOC_RESERVE grows by 0x1100000.
        ("2.6.24", 0xFEEFF000, 0x38000 - 0x1100),
        # pkmap of PAE: 0xfeeff000 - 613 pages = 0xfec9a000, down to 2 MiB; less two pages and 128 MiB.
        ("2.6.32", 0xFEEFF000, 0x36BFE),
        # -0x1100000 = 0xfef00000, down to 2 MiB.
        ("5.10", 0xFEDFF000, None),
    ],
)
def test_reservetop(era: str, top: int, max_low_pfn: int | None) -> None:
    """The option came with 2.6.24; PMD-aligned it is since 3.11."""
    found = layout(era, command_line="reservetop=17M", fixmap_slots=(83, 100))
    assert found.fixaddr_top == top
    assert max_low_pfn is None or found.max_low_pfn == max_low_pfn


@pytest.mark.parametrize("era", ["5.10", "6.1", "6.12", "7.2"])
def test_the_measured_layout_is_that_of_four_eras(era: str) -> None:
    """[R], measured with 6.1, NR_CPUS=1; pgtable_32_areas.h is the same text in all of them."""
    found = layout(era, nr_cpus=1, memory=2 * GIB, fixmap_slots=(20, 1025))
    assert found.cpu_entry_area_base == 0xFFA00000
    assert found.ldt_base == 0xFF800000
    assert found.pkmap_base == 0xFF600000
    assert found.vmalloc_end == 0xFF5FE000
    assert found.max_low_pfn == 0x375FE
    non_pae = layout(era, pae=False, nr_cpus=1, memory=2 * GIB, fixmap_slots=(20, 533))
    assert non_pae.cpu_entry_area_base == 0xFFC00000
    assert non_pae.ldt_base == 0xFF800000
    assert non_pae.pkmap_base == 0xFF400000
    assert non_pae.max_low_pfn == 0x373FE


@pytest.mark.parametrize("era", eras.NAMES)
def test_ram_above_4_gib_with_pae(era: str) -> None:
    """7.2 has no CONFIG_HIGHMEM64G any more: "only 4GB will be used", with PAE as without."""
    found = layout(era, memory=8 * GIB)
    assert found.max_pfn == found.highend_pfn == (0x100000 if era == "7.2" else 0x240000)


@pytest.mark.parametrize("era", eras.NAMES)
def test_ram_above_4_gib_without_pae(era: str) -> None:
    """find_max_pfn saw RAM beyond 4 GiB and MAX_NONPAE_PFN cut it; e820_end_pfn does not look there, so RAM ends
    below the PCI hole."""
    found = layout(era, pae=False, memory=8 * GIB)
    old = era in ("2.4", "2.6.18", "2.6.24")
    assert found.max_pfn == found.highend_pfn == (0x100000 if old else 0xBFFE0)


def test_highmem_option_trims_before_4_gib_do() -> None:
    """find_low_pfn_range: what highmem= leaves is cut at 4 GiB, and the cut is only made where RAM exceeds MAXMEM."""
    found = layout("7.2", nr_cpus=1, memory=8 * GIB, command_line="highmem=64M", fixmap_slots=(20, 1025))
    assert (found.max_low_pfn, found.max_pfn) == (0x375FE, 0x375FE + 0x4000)


@pytest.mark.parametrize(
    ("era", "expected"), [("2.4", 0x7FFE0), ("2.6.32", 0x7FFE0), ("6.12", 0x7FFE0), ("7.2", 0x80000)]
)
def test_max_mapnr(era: str, expected: int) -> None:
    """7.2 (alloc_node_mem_map): ALIGN(node end, 1024); before, highend_pfn (init_32.c)."""
    assert layout(era, memory=2 * GIB).max_mapnr == expected


def test_max_mapnr_of_7_2_counts_ram_only() -> None:
    """max_pfn is where ACPI's tables end, but the node ends with RAM: 0x3f801 pages, up to a multiple of 1024."""
    table = (E820Entry(0, 1016 * MIB + 4096, 1), E820Entry(1020 * MIB, 64 * 1024, 3))
    found = layout("7.2", e820=table)
    assert found.max_pfn == 0x3FC10
    assert found.max_mapnr == 0x3FC00
    assert layout("7.2", e820=table, sparsemem=True).max_mapnr is None
    assert layout("7.2", e820=(E820Entry(0, 1016 * MIB, 1),)).max_mapnr == 0x3F800


@pytest.mark.parametrize(
    ("era", "max_pfn"),
    [("2.4", 0x3F800), ("5.10", 0x3F800), ("6.1", 0x3F800), ("6.12", 0x3FC10), ("7.2", 0x3FC10)],
)
def test_acpi_tables_decide_the_end_since_6_12(era: str, max_pfn: int) -> None:
    """e820__end_ram_pfn counts E820_TYPE_ACPI, e820_end_pfn did not."""
    table = (E820Entry(0, 1016 * MIB, 1), E820Entry(1020 * MIB, 64 * 1024, 3))
    assert layout(era, e820=table).max_pfn == max_pfn


def test_too_many_cpus_for_2_4() -> None:
    """pkmap of non-PAE ends at 0xfe400000, that is 0x1bfe pages below FIXADDR_TOP."""
    assert layout("2.4", pae=False, fixmap_slots=(0x1BFE, 0x1BFE)).fixaddr_start == 0xFE400000
    with pytest.raises(
        UsageError, match=r"0xfe3ff000, into the pkmap area that ends at 0xfe400000.*many CPUs"
    ):
        layout("2.4", pae=False, fixmap_slots=(0x1BFF, 0x1BFF))
    assert layout("2.4", pae=False, highmem=False, fixmap_slots=(0x1BFF, 0x1BFF)).pkmap_base is None


def test_vmalloc_that_rounding_leaves_empty() -> None:
    """2.6.18: lowmem up to 0xff3fe000 would begin vmalloc at 0xffc00000, beyond its end at 0xff7fe000."""
    with pytest.raises(UsageError, match="lowmem up to 0xff400000 leaves no vmalloc area below 0xff7fe000"):
        layout("2.6.18", pae=False, command_line="vmalloc=12M", fixmap_slots=(83, 100))
    assert (
        layout("2.6.18", pae=False, command_line="vmalloc=32M", fixmap_slots=(83, 100)).vmalloc_start
        == 0xFE800000
    )


def test_a_vmalloc_area_of_one_page_is_one() -> None:
    """6.1, VMALLOC_END 0xff5fe000: 4 KiB and the hole below it, or nothing but the hole."""
    found = layout("6.1", nr_cpus=1, command_line="vmalloc=4K", fixmap_slots=(20, 1025))
    assert (found.vmalloc_start, found.vmalloc_end) == (0xFF5FD000, 0xFF5FE000)
    with pytest.raises(UsageError, match="leaves no vmalloc area"):
        layout("6.1", nr_cpus=1, command_line="vmalloc=0", fixmap_slots=(20, 1025))


def test_options_are_32_bits_wide() -> None:
    """__VMALLOC_RESERVE is an unsigned int, and so is what reserve_top_address gets."""
    with pytest.raises(UsageError, match="leaves no vmalloc area"):
        layout("6.1", command_line="vmalloc=4G")
    assert layout("6.1", command_line="vmalloc=4352M") == layout("6.1", command_line="vmalloc=256M")
    assert layout("6.1", command_line="reservetop=4112M") == layout("6.1", command_line="reservetop=16M")


def test_lowmem_of_one_page_and_of_none() -> None:
    """6.1: VMALLOC_END - PAGE_OFFSET is 0x3f5fe000; less 8 MiB and what is asked, a page is left, or nothing."""
    asked = 0x3F5FE000 - 8 * MIB - 4096
    found = layout("6.1", nr_cpus=1, command_line=f"vmalloc={asked}", fixmap_slots=(20, 1025))
    assert found.max_low_pfn == 1
    with pytest.raises(
        UsageError, match=r"vmalloc area of 1013 MiB below 0xff5fe000 leaves no room.*lower vmalloc="
    ):
        layout("6.1", nr_cpus=1, command_line=f"vmalloc={asked + 4096}", fixmap_slots=(20, 1025))


@pytest.mark.parametrize("era", ["2.6.24", "2.6.32"])
def test_reservetop_was_not_rounded_at_first(era: str) -> None:
    """reserve_top_address(): __FIXADDR_TOP = -reserve - PAGE_SIZE, whatever was asked for."""
    assert layout(era, command_line="reservetop=0x1001").fixaddr_top == (1 << 32) - 0x1001 - 0x1000

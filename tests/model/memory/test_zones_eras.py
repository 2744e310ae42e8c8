"""RAM, zones and mem_map of every era."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvmtools.errors import UsageError
from kvmtools.model.machine import configuration
from kvmtools.model.pages import memmap
from kvmtools.model.pages.flags_layout import FlagsLayout, flags_layout
from kvmtools.model.pages.memmap import ZoneRange
from kvmtools.model.prediction import Prediction
from kvmtools.records import E820Entry, Image, Range, ZoneSpan

MIB, GIB = 1 << 20, 1 << 30
HOLE = (E820Entry(0, 0x9FC00, 1), E820Entry(MIB, 15 * MIB, 1), E820Entry(32 * MIB, 992 * MIB, 1))
"""From 16 to 32 MiB there is nothing."""


def of(era: str, **changes: Any) -> Prediction:
    return Prediction(configuration(era, **changes))


def spans(found: Prediction) -> dict[str, tuple[int, int]]:
    return {zone.name: (zone.start_pfn, zone.end_pfn) for zone in found.zones}


def test_zones_of_2_4() -> None:
    """paging_init: sizes from pfn 0 on, holes and all; zholes_size is NULL, so every page is present."""
    found = of("2.4", e820=HOLE)
    assert found.zones == (
        ZoneSpan("DMA", 0, 0x1000),
        ZoneSpan("NORMAL", 0x1000, 0x38000),
        ZoneSpan("HIGHMEM", 0x38000, 0x40000),
    )
    assert [found.present(zone) for zone in found.zones] == [0x1000, 0x37000, 0x8000]


def test_zones_of_2_6_18() -> None:
    """enum zone_type has DMA32, which is never filled on i386."""
    found = of("2.6.18", e820=HOLE)
    assert spans(found) == {
        "DMA": (0, 0x1000),
        "DMA32": (0, 0),
        "NORMAL": (0x1000, 0x38000),
        "HIGHMEM": (0x38000, 0x40000),
    }


@pytest.mark.parametrize(
    ("era", "dma", "normal"),
    [
        ("2.6.24", 0x1000, 0x37000),  # add_active_range(0, 0, highend_pfn)
        ("2.6.32", 0xF9F, 0x36000 - 0x402),  # e820_register_active_regions; lowmem ends at 0x37bfe
        ("5.10", 0xF9E, None),  # page 0 is the BIOS's
    ],
)
def test_present_pages(era: str, dma: int, normal: int | None) -> None:
    slots = {"fixmap_slots": (83, 100)} if era == "2.6.32" else {}
    found = of(era, e820=HOLE, **slots)
    present = {zone.name: found.present(zone) for zone in found.zones}
    assert present["DMA"] == dma
    assert normal is None or present["NORMAL"] == normal
    assert present["MOVABLE"] == 0


def test_a_small_2_4_has_one_zone() -> None:
    found = of("2.4", e820=(E820Entry(0, 0x9FC00, 1), E820Entry(MIB, 7 * MIB, 1)))
    assert spans(found) == {"DMA": (0, 0x800), "NORMAL": (0, 0), "HIGHMEM": (0, 0)}


def test_7_2_forgets_what_max_pfn_leaves_out() -> None:
    """e820__memblock_setup: memblock_remove(PFN_PHYS(max_pfn), -1)."""
    found = of("7.2", memory=8 * GIB)
    assert found.layout.max_pfn == 0x100000
    assert found.ram.ranges[-1] == Range(0x100000, 0x240000)
    assert found.node.ranges[-1] == Range(0x100, 0xBFFE0)
    assert found.node.end_pfn == found.ram.end_pfn == 0x240000
    assert spans(found)["HIGHMEM"][1] == 0xBFFE0
    assert found.memmap.max_mapnr == found.memmap.length == 0xC0000
    before = of("6.12", memory=8 * GIB, command_line="highmem=64M")
    assert before.node.ranges[-1] == Range(0x100000, 0x240000)
    assert before.node is before.ram


def test_2_6_32_registers_ram_up_to_max_pfn() -> None:
    """initmem_init: e820_register_active_regions(0, 0, highend_pfn)."""
    found = of("2.6.32", memory=8 * GIB, sparsemem=True, fixmap_slots=(83, 100), command_line="highmem=64M")
    assert found.layout.max_pfn == 0x37BFE + 0x4000
    assert found.node.ranges == found.registered.ranges == (Range(0, 0x9F), Range(0x100, 0x3BBFE))
    assert found.memmap.valid == (Range(0, 0x40000),)


@pytest.mark.parametrize(
    ("era", "ranges"),
    [
        ("2.4", (Range(0, 0xA0), Range(0x100, 0x40000), Range(0x80000, 0x140000))),
        ("2.6.32", (Range(0, 0x40000), Range(0x80000, 0x140000))),
        ("5.10", (Range(1, 0xA0), Range(0x100, 0x40000))),
    ],
)
def test_ram_across_4_gib_without_pae(era: str, ranges: tuple[Range, ...]) -> None:
    """page_is_ram and e820_find_active_region count in pfns and take what is below 4 GiB; e820__memblock_setup skips
    an entry whose end phys_addr_t cannot hold."""
    found = of(era, pae=False, e820=(E820Entry(0, GIB, 1), E820Entry(2 * GIB, 3 * GIB, 1)))
    assert found.ram.ranges == ranges
    assert found.layout.max_pfn == 0x100000
    assert spans(found)["HIGHMEM"][1] == (0x40000 if era == "5.10" else 0x100000)


def test_ram_that_ends_at_4_gib_without_pae() -> None:
    """1 << 32 is no 32-bit phys_addr_t: the entry is lost, as if it went beyond; a page less and it is there."""
    ending = (E820Entry(0, GIB, 1), E820Entry(3 * GIB, GIB, 1))
    assert spans(of("6.1", pae=False, e820=ending))["HIGHMEM"][1] == 0x40000
    short = (E820Entry(0, GIB, 1), E820Entry(3 * GIB, GIB - 4096, 1))
    assert spans(of("6.1", pae=False, e820=short))["HIGHMEM"][1] == 0xFFFFF
    assert spans(of("6.1", e820=ending))["HIGHMEM"][1] == 0x100000
    assert spans(of("2.6.24", pae=False, e820=ending))["HIGHMEM"][1] == 0x100000


def test_kernelcore_came_with_zone_movable() -> None:
    for era in ("2.4", "2.6.18"):
        plain, asked = (spans(of(era, command_line=text)) for text in ("", "kernelcore=64M"))
        assert plain == asked


def test_no_ram_to_be_movable() -> None:
    """6.12: ACPI's tables alone lie above MAXMEM_PFN 0x375fe, so zone HIGHMEM could be, but nothing is in it."""
    table = (E820Entry(0, 0x375FE000, 1), E820Entry(0x375FE000, 0x10000, 3))
    found = of("6.12", nr_cpus=1, fixmap_slots=(20, 1025), e820=table, command_line="kernelcore=64M")
    assert found.layout.max_pfn == 0x3760E
    assert spans(found) == {
        "DMA": (1, 0x1000),
        "NORMAL": (0x1000, 0x375FE),
        "HIGHMEM": (0, 0),
        "MOVABLE": (0, 0),
    }


def test_what_is_ram() -> None:
    """RESERVED_KERN is RAM from 5.10 to 6.12; 2.6.32 has it, but registers E820_RAM only.  Until 2.6.24 the BIOS
    area was trimmed as the map was read, 2.6.32 believes everything, and since 5.10 page 0 goes too."""
    table = (E820Entry(0, MIB, 1), E820Entry(MIB, MIB, 128), E820Entry(2 * MIB, GIB, 1))
    expected = {
        "2.4": (Range(0, 0xA0), Range(0x200, 0x40200)),
        "2.6.24": (Range(0, 0xA0), Range(0x200, 0x40200)),
        "2.6.32": (Range(0, 0x100), Range(0x200, 0x40200)),
        "5.10": (Range(1, 0xA0), Range(0x100, 0x40200)),
        "6.12": (Range(1, 0xA0), Range(0x100, 0x40200)),
        "7.2": (Range(1, 0xA0), Range(0x200, 0x40200)),
    }
    assert {era: of(era, e820=table).ram.ranges for era in expected} == expected


def test_all_ram_beyond_max_pfn() -> None:
    """2.6.32 without HIGHMEM registers RAM below MAXMEM_PFN."""
    found = of("2.6.32", highmem=False, e820=(E820Entry(3 * GIB, 512 * MIB, 1),))
    with pytest.raises(UsageError, match="all RAM lies beyond max_pfn 0x37"):
        _ = found.zones


def test_the_command_line_may_claim_the_bios_area_in_2_4() -> None:
    """copy_e820_map trims the firmware's map; add_memory_region takes what mem= says."""
    found = of("2.4", e820=(E820Entry(0, GIB, 1),), command_line="mem=64K@960K")
    assert found.ram.ranges == (Range(0, 0xA0), Range(0xF0, 0x40000))


def test_the_image_is_ram_since_5_10() -> None:
    """e820_add_kernel_range; the image of an ordinary build lies from 16 MiB on."""
    table = (E820Entry(0, 8 * MIB, 1), E820Entry(64 * MIB, GIB, 1))
    assert 0x1000 in of("6.1", e820=table).ram
    assert 0x1000 not in of("2.6.32", e820=table).ram


def test_ram_without_a_whole_page_is_none() -> None:
    """memblock_trim_memory: 8 KiB that touch three pages hold one, 4 KiB between pages none."""
    table = (E820Entry(0, MIB, 1), E820Entry(0x200800, 0x1000, 1), E820Entry(0x300800, 0x2000, 1))
    assert of("2.4", e820=table).ram.ranges == (Range(0, 0xA0), Range(0x301, 0x302))


@pytest.mark.parametrize(("start", "pages"), [(0x3FFFF, 1), (0x40000, 0)])
def test_ram_below(start: int, pages: int) -> None:
    found = of("2.4", e820=HOLE).ram.below(0x40000)
    assert found.pages(start, 0x50000) == pages


@pytest.mark.parametrize(
    ("command_line", "movable"),
    [
        # 6 GiB: 0xbff7e pages lie below the PCI hole; what is asked beyond them lies from 4 GiB on, to whole blocks.
        ("kernelcore=4G", (0x100000 + 0x100000 - 0xBFF7E + 0x37E, 0x1C0000)),
        (f"kernelcore={0xBFF7E * 4}K", (0xC0000, 0x1C0000)),
        (f"kernelcore={0xBFF7E * 4 + 4}K", (0x100400, 0x1C0000)),
    ],
)
def test_kernelcore_that_reaches_over_the_hole(command_line: str, movable: tuple[int, int]) -> None:
    assert spans(of("6.1", memory=6 * GIB, command_line=command_line))["MOVABLE"] == movable


def test_kernelcore_counts_page_0_where_it_is_ram() -> None:
    """2.6.24: 0x10000 pages from pfn 0 on end at pfn 0x10000, a boundary of blocks."""
    found = of("2.6.24", e820=(E820Entry(0, 512 * MIB, 1),), command_line="kernelcore=256M")
    assert spans(found)["MOVABLE"] == (0x10000, 0x20000)


def test_a_prediction_knows_its_era() -> None:
    assert of("2.6.32").era.name == "2.6.32"


# -- mem_map -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("era", "length", "tail"),
    [
        (
            "2.4",
            0x7FFE1,
            Range(0x7FFE0, 0x7FFE1),
        ),  # free_area_init_core: (totalpages + 1) * sizeof(struct page)
        ("2.6.18", 0x80000, Range(0x7FFE0, 0x80000)),
        ("6.12", 0x80000, Range(0x7FFE0, 0x80000)),
        ("7.2", 0x80000, Range(0x80000, 0x80000)),
    ],
)
def test_the_array(era: str, length: int, tail: Range) -> None:
    found = of(era, memory=2 * GIB).memmap
    assert (found.length, found.tail) == (length, tail)
    assert found.size == length * (64 if era == "2.4" else 32)


@pytest.mark.parametrize(
    ("era", "valid", "tail"),
    [
        ("6.12", Range(0, 0x3F801), Range(0x3F801, 0x3FC00)),
        ("7.2", Range(0, 0x3FC00), Range(0x3FC00, 0x3FC00)),
    ],
)
def test_no_entry_for_tables_behind_the_last_ram(era: str, valid: Range, tail: Range) -> None:
    """max_pfn is 0x3fc10, where ACPI's tables end; the array ends with the last block that holds RAM."""
    table = (E820Entry(0, 1016 * MIB + 4096, 1), E820Entry(1020 * MIB, 64 * 1024, 3))
    found = of(era, e820=table).memmap
    assert found.max_mapnr == (0x3FC10 if era == "6.12" else 0x3FC00)
    assert found.length == 0x3FC00
    assert (found.valid, found.tail) == ((valid,), tail)


def test_7_2_gives_the_tail_to_the_last_zone() -> None:
    """memmap_init rounds the last hole up to MAX_ORDER_NR_PAGES."""
    found = of("7.2", memory=2 * GIB).memmap
    assert found.zones[-1] == ZoneRange(0x7FFE0, 0x80000, 2, False)
    assert found.valid == (Range(0, 0x80000),)


def test_holes_belong_to_the_zone_that_spans_them_until_2_6_32() -> None:
    """memmap_init_zone walks the span; DMA's last MiB and NORMAL's first are no RAM."""
    table = (E820Entry(0, 0x9FC00, 1), E820Entry(MIB, 14 * MIB, 1), E820Entry(17 * MIB, 1007 * MIB, 1))
    found = of("2.6.18", e820=table, fixmap_slots=(83, 100)).memmap
    assert found.zones == (
        ZoneRange(0, 0x9F, 0, True),
        ZoneRange(0x9F, 0x100, 0, False),
        ZoneRange(0x100, 0xF00, 0, True),
        ZoneRange(0xF00, 0x1000, 0, False),
        ZoneRange(0x1000, 0x1100, 2, False),
        ZoneRange(0x1100, 0x38000, 2, True),
        ZoneRange(0x38000, 0x40000, 3, True),
    )
    elsewhere = replace(configuration("5.10", e820=table), image=Image(0, {}))
    later = Prediction(elsewhere).memmap
    assert later.image == Range(0, 0)
    assert later.zones[3:5] == (ZoneRange(0x100, 0xF00, 0, True), ZoneRange(0xF00, 0x1100, 0, False))
    elsewhere = replace(configuration("6.1", e820=table), image=Image(0, {}))
    latest = Prediction(elsewhere).memmap
    assert latest.zones[3:5] == (ZoneRange(0x100, 0xF00, 0, True), ZoneRange(0xF00, 0x1100, 1, False))


def test_what_a_hole_holds() -> None:
    """2.4: set_page_count(page, 0), and no count of mappings; since 2.6.18 one reference and no mapping."""
    assert (of("2.4").memmap.hole.refcount, of("2.4").memmap.hole.mapcount) == (0, None)
    assert (of("2.6.18").memmap.hole.refcount, of("2.6.18").memmap.hole.mapcount) == (1, -1)
    assert of("2.4").memmap.hole.flags == {"reserved"}


def test_flatmem_of_5_10_leaves_holes_zero() -> None:
    """Seen in 5.10.262: above the PCI hole's 1 GiB of zeros highmem goes on; SPARSEMEM initialises them."""
    flat = of("5.10", memory=4 * GIB).memmap
    assert (flat.hole.refcount, flat.hole.mapcount, flat.hole.flags) == (0, 0, frozenset())
    assert flat.zones[-3:] == (
        ZoneRange(0x375FE, 0xBFFE0, 2, True),
        ZoneRange(0xBFFE0, 0x100000, 0, False),
        ZoneRange(0x100000, 0x140000, 2, True),
    )
    sparse = of("5.10", memory=4 * GIB, sparsemem=True).memmap
    assert (sparse.hole.refcount, sparse.hole.mapcount, sparse.hole.flags) == (1, -1, {"reserved"})
    assert {zone.zone for zone in sparse.zones if not zone.ram and zone.start >= 0x375FE} == {2}


@pytest.mark.parametrize(
    ("era", "pae", "expected"),
    [
        ("2.6.18", True, FlagsLayout(26, 6, 24, 2)),  # 36 - 30 bits of section
        ("2.6.24", False, FlagsLayout(26, 6, 24, 2)),  # 32 - 26
        ("5.10", True, FlagsLayout(25, 7, 23, 2)),  # 36 - 29
    ],
)
def test_section_bits(era: str, pae: bool, expected: FlagsLayout) -> None:
    assert flags_layout(configuration(era, pae=pae, sparsemem=True)) == expected


def test_zone_of_a_flags_word_in_2_4() -> None:
    """Red Hat's 2.4.18: zone_table[flags >> 24]."""
    flags = flags_layout(configuration("2.4"))
    assert flags == FlagsLayout(32, 0, 24, 8)
    assert flags.zone(0x02FFFFFF) == 2


def test_sections_hold_a_gib_in_2_6_and_half_of_that_later() -> None:
    for era, pages in (("2.6.18", 0x40000), ("2.6.24", 0x40000), ("5.10", 0x20000), ("7.2", 0x20000)):
        assert memmap.pages_per_section(configuration(era, sparsemem=True)) == pages
        assert memmap.pages_per_section(configuration(era, pae=False, sparsemem=True)) == 0x4000


def test_a_hole_has_no_section_even_if_the_node_covers_it() -> None:
    """2.6.24, e820_32.c: memory_present() for every range of E820_RAM; the PCI hole is section 3, a GiB each."""
    found = of("2.6.24", memory=6 * GIB, sparsemem=True)
    assert memmap.present_sections(found.configuration, found.registered) == (0, 1, 2, 4, 5, 6)
    assert found.memmap.valid == (Range(0, 0xC0000), Range(0x100000, 0x1C0000))
    assert found.node.ranges == (Range(0, 0x1C0000),)
    later = of("5.10", memory=6 * GIB, sparsemem=True)
    assert memmap.present_sections(later.configuration, later.registered) == (*range(6), *range(8, 14))


def test_2_4_has_no_sections() -> None:
    with pytest.raises(UsageError, match=r"2\.4 has no SPARSEMEM"):
        memmap.pages_per_section(configuration("2.4"))
    with pytest.raises(UsageError, match=r"came with 2\.6\.13"):
        memmap.present_sections(configuration("2.4"), of("2.4").ram)


def test_a_node_that_begins_high_has_no_pfn_0() -> None:
    table = (E820Entry(4 * MIB, GIB, 1),)
    with pytest.raises(UsageError, match="begins at pfn 0x400 leaves mem_map without pfn 0"):
        _ = of("6.1", e820=table).memmap
    assert of("6.1", e820=(E820Entry(4 * MIB - 4096, GIB, 1),)).memmap.length == 0x40400
    assert of("2.4", e820=table).memmap.valid == (Range(0, 0x40400),)

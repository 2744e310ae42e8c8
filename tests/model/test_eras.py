"""The eras' table against what other people wrote down: the origin text, comments and numbered lists of the kernel's
headers, the DWARF of a recorded 6.1 guest; and the table's own order.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from itertools import pairwise
from math import isqrt
from pathlib import Path

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import eras, machine
from kvmtools.model.era_table import PAIRS, TABLE
from kvmtools.model.eras import NAMES, Era
from kvmtools.model.layout import predict
from kvmtools.records import MARKS, PAGE_SIZE

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"
MIB = 1 << 20
ALL = [eras.named(name) for name in NAMES]
SIX_ONE = eras.named("6.1")


def since(first: str, last: str = NAMES[-1]) -> list[str]:
    """Names of the eras from ``first`` to ``last``, both included."""
    return list(NAMES[NAMES.index(first) : NAMES.index(last) + 1])


# -- the 2.4 of the origin text ------------------------------------------------------------------------------


@pytest.mark.parametrize(("pae", "slots", "used"), [(False, 1024, 4 * MIB), (True, 512, 2 * MIB)])
def test_the_pkmap_area_of_2_4_is_as_the_origin_text_says(pae: bool, slots: int, used: int) -> None:
    # Gorman 2004, 10.1: PKMAP_BASE is at 0xFE000000; FIXADDR_START varies by a few pages, which leaves slightly below
    # 32 MiB for the area; of it a single page of PTEs is used: 1024 pages, with PAE 512.
    layout = predict(machine.configuration("2.4", pae=pae))
    assert layout.pkmap_base == 0xFE000000
    assert layout.fixaddr_start is not None
    assert layout.last_pkmap is not None
    space = layout.fixaddr_start - layout.pkmap_base
    assert 31 * MIB < space < 32 * MIB
    assert layout.last_pkmap == slots
    assert layout.last_pkmap * PAGE_SIZE == used


def test_the_top_of_2_4_leaves_two_pages() -> None:
    # 2.4.0 include/asm/fixmap.h: one page is left empty at the top of memory, and slot 0 is used.
    assert eras.named("2.4").fixaddr_top == (1 << 32) - 2 * PAGE_SIZE
    # 2.6.18 include/asm-i386/fixmap.h: slot 0 is FIX_HOLE.
    assert {era.fixaddr_top for era in ALL[1:]} == {(1 << 32) - PAGE_SIZE}


# -- when what changed ---------------------------------------------------------------------------------------

#: The eras in which a switch is on, and where that is to be seen.
ON = {
    "fixmap_hole": since("2.6.18"),  # fixmap.h: FIX_HOLE
    "cpu_entry_area": since("5.10"),  # Documentation/x86/pti.rst: with page-table isolation
    "ldt_remap": since("5.10"),
    "pti": since("5.10"),
    "noexec_option": ["2.6.18", "2.6.24", "2.6.32", "5.10"],  # kernel-parameters.txt
    "nx": since("2.6.18"),
    "zero_page_pdptes": since("2.4", "2.6.24"),  # init_32.c: native_pagetable_setup_start
    "first_directory_entry_split": since("2.6.32"),  # init.c: fixed-size MTRRs are in there
    "direct_map_overruns": since(
        "2.4", "2.6.24"
    ),  # 2.6.24 init_32.c: pfn < max_low_pfn is asked once per large page
    "direct_map_holes": since("2.4", "2.6.32"),  # 2.6.32 setup.c: init_memory_mapping(0, max_low_pfn)
    "read_only_dirty": since("2.4", "6.1"),  # pgtable_types.h: ___D in __PAGE_KERNEL_RO
    "vdso_in_fixmap": since("2.6.18", "2.6.32"),  # enum fixed_addresses: FIX_VDSO
    "huge_vmalloc": since("5.10"),  # arch/x86/Kconfig: HAVE_ARCH_HUGE_VMAP if X86_PAE
    "large_pages_collapse": ["7.2"],  # set_memory.c: CPA_COLLAPSE
    "shared_kernel_pmd": since("2.4", "6.12"),  # pgtable-3level_types.h: SHARED_KERNEL_PMD
    "vmalloc_synced": since("5.10"),  # fault.c: arch_sync_kernel_mappings
    "highpte": since("2.6.18", "6.12"),  # Kconfig: HIGHPTE
    "flush_tlb_always": since("2.4", "2.6.24"),  # mm/highmem.c: no need_flush yet
    "kmap_flush_unused": since("2.6.24"),  # mm/highmem.c
    "kmap_slots_always": since("5.10"),  # fixmap.h: FIX_KMAP_BEGIN is no longer under CONFIG_HIGHMEM
    "kmap_stale": since("2.4", "2.6.18"),  # highmem_32.c: kpte_clear_flush in kunmap_atomic
    "mem_map_rounded": since("2.6.18"),  # mm/page_alloc.c: alloc_node_mem_map
    "max_mapnr_aligned": ["7.2"],  # mm/mm_init.c: max_mapnr = end - start
    "tail_initialised": ["7.2"],
    "ram_end_limited": since("2.6.32"),  # e820.c: e820_end_pfn
    "bios_area_trimmed": since("2.4", "2.6.24"),  # e820_32.c: copy_e820_map
    "ram_trimmed": since("5.10"),  # setup.c: trim_bios_range
    "ram_must_fit": since("5.10"),  # e820.c: e820__memblock_setup
    "ram_ends_at_max_pfn": ["2.6.32", "7.2"],  # 2.6.32 init_32.c: initmem_init; 7.2 e820.c: memblock_remove
    "first_mib_reserved": since("6.1"),  # setup.c: memblock_reserve(0, SZ_1M)
    "highmem64g": since("2.4", "6.12"),  # Kconfig: HIGHMEM64G
    "pae_needs_highmem": since("2.4", "2.6.18"),  # 2.6.18 Kconfig: X86_PAE depends on HIGHMEM64G
    "zones_cover_holes": since("2.4", "2.6.24"),
    "numa": since("2.6.18", "6.12"),  # Kconfig: NUMA depends on X86_64 in 7.2
    "discontigmem": since("2.6.18", "2.6.32"),  # Kconfig: ARCH_DISCONTIGMEM_ENABLE depends on NUMA
    "highmem_freed_singly": since("2.4", "6.12"),  # init_32.c: add_highpages_with_active_regions
    "buddy_checks_pfn": since("2.6.18", "5.10"),  # mm/page_alloc.c: pfn_valid_within
}


@pytest.mark.parametrize("field", ON)
def test_switches(field: str) -> None:
    assert [era.name for era in ALL if getattr(era, field)] == ON[field]


def test_every_switch_is_in_the_list_above() -> None:
    assert {field for field in TABLE if isinstance(getattr(SIX_ONE, field), bool)} == set(ON)


#: Words by era: the same eight in the order of NAMES.
WORDS = {
    # highmem.h; pgtable_32_areas.h
    "pkmap_below": "fixed fixmap fixmap fixmap ldt ldt ldt ldt",
    # setup.c, pgtable_32.c: VMALLOC_OFFSET is added to what was asked for
    "vmalloc_option": "none exact exact plus_offset plus_offset plus_offset plus_offset plus_offset",
    # pgtable_32.c, later pgtable.c: reserve_top_address
    "reservetop_option": "none none exact_and_vmalloc exact rounded rounded rounded rounded",
    # pti.c: pti_check_boottime_disable
    "pti_option": "none none none none before_nopti before_nopti below_mitigations above_mitigations",
    # page.h; pgtable_32_types.h: MAXMEM
    "maxmem_below": "top top top vmalloc_end vmalloc_end vmalloc_end vmalloc_end vmalloc_end",
    # fixmap.h: FIX_BTMAP_END
    "fixmap_boot_start": "next next next multiple one_table one_table one_table one_table",
    # init.c, init_32.c: is_kernel_text, mark_rodata_ro
    "image_protection": "none large_pages large_pages large_pages sections sections sections sections",
    # mm/highmem.c: set_page_address
    "page_address": "member pool pool pool indexed indexed indexed indexed",
    # kmap_atomic with a km_type; kmap_atomic_idx_push; task_struct.kmap_ctrl
    "kmap_slots": "typed typed typed typed per-CPU_stack per-task per-task per-task",
    # mm/page_alloc.c: where a hole's struct page belongs
    "hole_zone": "spanning spanning spanning spanning following following following following",
    # page-flags.h, mm/page_alloc.c: set_page_order
    "buddy_mark": (
        "bitmap PG_buddy PG_buddy PG_buddy page_type_bit page_type_bit page_type_byte page_type_byte"
    ),
}


@pytest.mark.parametrize("field", WORDS)
def test_choices(field: str) -> None:
    assert [getattr(era, field).replace(" ", "_") for era in ALL] == WORDS[field].split()


def test_every_choice_is_in_the_list_above() -> None:
    assert {field for field in TABLE if isinstance(getattr(SIX_ONE, field), str)} == set(WORDS)


def test_cpus() -> None:
    # threads.h of 2.4: a bit of a long for each; Kconfig: range 2 255, 2 512, later 64 with BIGSMP, which 7.2 dropped.
    assert [era.most_cpus for era in ALL] == [32, 255, 255, 512, 64, 64, 64, 8]


def test_pkmap_base_is_fixed_in_2_4_only() -> None:
    assert [era.pkmap_base for era in ALL] == [0xFE000000] + [None] * 7


def test_vmalloc_begins_on_8_mib_until_2_6_24() -> None:
    # pgtable.h: (high_memory + 2*VMALLOC_OFFSET - 1) & ~(VMALLOC_OFFSET - 1)
    assert [era.vmalloc_start_rounding for era in ALL] == [8 * MIB] * 3 + [1] * 5


def test_splits() -> None:
    # CONFIG_VMSPLIT_*: 3 GiB, 2.75 and 1.875 GiB for users, and since 2.6.20 whole 2 GiB; PAE needs whole GiB.
    gib = 1 << 30
    every = {era.name: era.page_offsets for era in ALL}
    assert every["2.4"] == ((3 * gib,), (3 * gib,))
    assert every["2.6.18"] == ((3 * gib, 11 * gib // 4, 15 * gib // 8, gib), (3 * gib,))
    later = ((3 * gib, 11 * gib // 4, 2 * gib, 15 * gib // 8, gib), (3 * gib, 2 * gib, gib))
    assert [every[name] for name in since("2.6.24")] == [later] * 6


# -- constants -----------------------------------------------------------------------------------------------


def test_hash_multipliers() -> None:
    # include/linux/hash.h until 4.6: 2^31 + 2^29 - 2^25 + 2^22 - 2^19 - 2^16 + 1; then 2^32 over the square of the
    # golden ratio, (3 - sqrt 5) / 2.
    old = 2**31 + 2**29 - 2**25 + 2**22 - 2**19 - 2**16 + 1
    new = (3 * 2**32 - isqrt(5 * 2**64)) // 2
    assert [era.hash_multiplier for era in ALL] == [None] + [old] * 3 + [new] * 4


def test_sections() -> None:
    # sparsemem.h: 64 MiB; 1 GiB with PAE, from 2.6.32 on 512 MiB; 4 and 64 GiB of memory.
    assert [era.section_size_bits for era in ALL] == [None, (26, 30), (26, 30)] + [(26, 29)] * 5
    assert [era.max_physmem_bits for era in ALL] == [None] + [(32, 36)] * 7
    # mmzone.h: MARKED_PRESENT, HAS_MEM_MAP; then IS_ONLINE and IS_EARLY.
    assert [era.section_flag_bits for era in ALL] == [None, 2, 2, 2, 4, 4, 4, 4]


def test_orders() -> None:
    # mmzone.h: MAX_ORDER, later MAX_PAGE_ORDER + 1; blocks of 2 MiB in 2.4, of 4 MiB after it.
    assert [PAGE_SIZE << (era.max_order - 1) for era in ALL] == [2 * MIB] + [4 * MIB] * 7


def test_page_types_of_a_free_block() -> None:
    # page-flags.h: every bit but PG_buddy, 0x80; then PGTY_buddy, 0xf0, in the top byte.
    assert [era.buddy_page_type for era in ALL] == [None] * 4 + [~0x80 & 0xFFFFFFFF] * 2 + [0xF0 << 24] * 2


def test_zones() -> None:
    # mmzone.h: DMA32 was there for everyone in 2.6.18; MOVABLE came in 2.6.23.
    assert [era.zone_names for era in ALL] == [
        ("DMA", "NORMAL", "HIGHMEM"),
        ("DMA", "DMA32", "NORMAL", "HIGHMEM"),
        *[("DMA", "NORMAL", "HIGHMEM", "MOVABLE")] * 6,
    ]


def test_struct_page() -> None:
    # mm.h of 2.4.16: 16 words on SMP; 8 words after it, without MEMCG.
    assert [era.page_struct_size for era in ALL] == [16 * 4] + [8 * 4] * 7
    # 2.4 with the zone in page->flags has it in the top byte, ZONE_SHIFT 24.
    assert [era.zone_flag_bits for era in ALL] == [8] + [None] * 7


def test_holes() -> None:
    # page_alloc.c: set_page_count(page, 0) in 2.4; init_page_count and reset_page_mapcount later.
    assert [era.hole_refcount for era in ALL] == [0] + [1] * 7
    assert [era.hole_mapcount for era in ALL] == [None] + [-1] * 7


def test_ram_types() -> None:
    # e820/types.h: 1 RAM, 3 ACPI, 128 RAM that the boot loader's data lie in.
    assert [era.ram_types for era in ALL] == [(1,)] * 4 + [(1, 128)] * 3 + [(1,)]
    assert [era.ram_end_types for era in ALL] == [(1,)] * 6 + [(1, 3)] * 2


def test_the_image_lies_at_1_mib_and_later_at_16() -> None:
    assert [era.image_at // MIB for era in ALL] == [1] * 3 + [16] * 5


def test_prot_none() -> None:
    # pgtable.h: 0x080; pgtable_types.h: the bit of global pages
    assert [1 << era.protnone_bit for era in ALL] == [0x080] * 3 + [0x100] * 5


def test_software_bits() -> None:
    # pgtable_types.h, as far as a 32-bit kernel has them: soft-dirty tracking and userfaultfd do not come into it.
    assert [" ".join(f"{bit}:{use}" for bit, use in era.software_bits) for era in ALL] == [
        *[""] * 3,
        "9:special 10:iomap 11:hidden",
        *["9:special"] * 2,
        "9:special 10:saved_dirty",
        "9:special 10:saved_dirty 11:kernel_4k",
    ]


#: The numbers that page-flags.h gives the flags, or would if it wrote them down.
FLAGS = {
    "2.4": "locked0 error1 referenced2 uptodate3 dirty4 unused5 lru6 active7 slab8 skip10 highmem11 checked12 arch_1-13"
    " reserved14 launder15",
    "2.6.18": "locked0 error1 referenced2 uptodate3 dirty4 lru5 active6 slab7 checked8 arch_1-9 reserved10 private11"
    " writeback12 nosave13 compound14 swapcache15 mappedtodisk16 reclaim17 nosave_free18 buddy19",
    "2.6.24": "locked0 error1 referenced2 uptodate3 dirty4 lru5 active6 slab7 owner_priv_1-8 arch_1-9 reserved10"
    " private11 writeback12 compound14 swapcache15 mappedtodisk16 reclaim17 buddy19",
    "2.6.32": "locked0 error1 referenced2 uptodate3 dirty4 lru5 active6 slab7 owner_priv_1-8 arch_1-9 reserved10"
    " private11 private_2-12 writeback13 head14 tail15 swapcache16 mappedtodisk17 reclaim18 buddy19 swapbacked20"
    " unevictable21 mlocked22 uncached23",
    "6.12": "locked0 writeback1 referenced2 uptodate3 dirty4 lru5 head6 waiters7 active8 workingset9 owner_priv_1-10"
    " owner_2-11 arch_1-12 reserved13 private14 private_2-15 reclaim16 swapbacked17 unevictable18 mlocked19 arch_2-20",
    "7.2": "locked0 writeback1 referenced2 uptodate3 dirty4 lru5 head6 waiters7 active8 workingset9 owner_priv_1-10"
    " owner_2-11 arch_1-12 reserved13 private14 private_2-15 reclaim16 swapbacked17 unevictable18 dropbehind19"
    " mlocked20 arch_2-21",
}


@pytest.mark.parametrize("name", FLAGS)
def test_page_flags(name: str) -> None:
    numbered = {flag: int(bit) for flag, bit in re.findall(r"(\w*[a-z](?:_\d)?)-?(\d+)", FLAGS[name])}
    names = eras.named(name).page_flags
    assert {flag: bit for bit, flag in enumerate(names) if flag != f"bit{bit}"} == numbered


# -- the recorded guests: ordinary builds of 6.1 -------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["nopae", "pae"])
def recorded(request: pytest.FixtureRequest) -> tuple[bool, dict[str, dict[str, int]], dict[str, int]]:
    """Whether it has PAE, its enumerations, and the numbers in its DWARF."""
    pae = request.param
    answers = json.loads((GUESTS / f"{'pae' if pae else 'nopae'}.json").read_text())["facts"]["answers"]
    enumerations = {key.split()[1]: value for key, value in answers.items() if key.startswith("enumerators")}
    return pae, enumerations, answers


Recorded = tuple[bool, dict[str, dict[str, int]], dict[str, int]]


def test_6_1_has_the_fixmap_of_a_recorded_guest(recorded: Recorded) -> None:
    pae, enumerations, answers = recorded
    slots = enumerations["fixed_addresses"]
    cpus = answers["array_length typeof(__per_cpu_offset)"]
    assert SIX_ONE.fixmap(cpus, pae=pae) == (
        slots["__end_of_permanent_fixed_addresses"],
        slots["__end_of_fixed_addresses"],
    )
    assert slots["FIX_KMAP_END"] + 1 - slots["FIX_KMAP_BEGIN"] == SIX_ONE.kmap_slots_per_cpu * cpus


def test_6_1_has_the_page_flags_of_a_recorded_guest(recorded: Recorded) -> None:
    flags = recorded[1]["pageflags"]
    count = flags["__NR_PAGEFLAGS"]
    assert len(SIX_ONE.page_flags) == count
    assert [flags[f"PG_{name}"] for name in SIX_ONE.page_flags] == list(range(count))


def test_6_1_has_the_sizes_of_a_recorded_guest(recorded: Recorded) -> None:
    _, enumerations, answers = recorded
    assert SIX_ONE.page_struct_size == answers["sizeof struct page"]
    assert SIX_ONE.cpu_entry_area_size == answers["sizeof struct cpu_entry_area"]
    assert SIX_ONE.max_order == answers["array_length struct zone free_area"]
    zones = enumerations["zone_type"]
    assert [f"ZONE_{name}" for name in SIX_ONE.zone_names] == sorted(
        (name for name in zones if name.startswith("ZONE_")), key=zones.__getitem__
    )


def test_5_10_has_the_flags_of_6_1_and_the_same_entry_area() -> None:
    # page-flags.h and cpu_entry_area.h did not change in between; there was no such area before.
    assert eras.named("5.10").page_flags == SIX_ONE.page_flags
    sizes = [era.cpu_entry_area_size for era in ALL]
    assert sizes == [0] * 4 + [SIX_ONE.cpu_entry_area_size] * 4


# -- the fixmap ----------------------------------------------------------------------------------------------


def test_fixmap_slots() -> None:
    # enum fixed_addresses without kmap slots: the hole, the vdso's page, a debug port and an early console, the local
    # APIC, IO-APICs, ACPI tables, PCI configuration, text_poke.
    assert [era.fixmap_slots for era in ALL] == [
        1 + 8,
        1 + 1 + 1 + 64 + 4 + 1,
        1 + 1 + 2 + 1 + 64 + 4 + 1,
        1 + 1 + 2 + 1 + 64 + 1 + 2,
        *[1 + 2 + 1 + 64 + 1] * 4,
    ]
    # kmap_types.h, kmap_size.h: KM_TYPE_NR, KM_MAX_IDX
    assert [era.kmap_slots_per_cpu for era in ALL] == [7, 13, 13, 19, 20, 16, 16, 16]
    # NR_FIX_BTMAPS * FIX_BTMAPS_SLOTS
    assert [era.fixmap_boot_slots for era in ALL] == [0, 16, 16, 64 * 4, *[64 * 8] * 4]


@pytest.mark.parametrize(
    ("name", "cpus", "pae", "permanent", "end"),
    [
        ("2.4", 4, True, 9 + 28, 37),  # nothing is kept for booting
        ("2.6.18", 1, False, 72 + 13, 85 + 16 + 1),  # the slots that follow, and that of the WP test
        ("2.6.32", 1, True, 72 + 19, 256 + 256 + 1),  # the next multiple of 256
        ("2.6.32", 80, False, 1592, 1792 + 256 + 1),
        ("6.1", 1, False, 85, 85 + 512 + 1),  # they fit in the table that slot 85 is in
        ("6.1", 1, True, 85, 512 + 512 + 1),  # they would not with 512 entries to a table
        ("6.1", 28, False, 517, 1024 + 512 + 1),  # nor with 1024
        ("5.10", 1, False, 89, 89 + 512 + 1),
    ],
)
def test_fixmap_ends(name: str, cpus: int, pae: bool, permanent: int, end: int) -> None:
    assert eras.named(name).fixmap(cpus, pae=pae) == (permanent, end)


@pytest.mark.parametrize(("pae", "entries"), [(False, 1024), (True, 512)])
def test_boot_slots_begin_where_the_headers_formulas_say(pae: bool, entries: int) -> None:
    for permanent in range(100, 2200):
        rounded = replace(eras.named("2.6.32"), fixmap_slots=permanent - 19).fixmap(1, pae=pae)
        assert rounded == (permanent, permanent + 256 - (permanent & 255) + 256 + 1)
        crosses = (permanent ^ (permanent + 512 - 1)) & -entries
        begin = permanent + 512 - (permanent & 511) if crosses else permanent
        whole = replace(SIX_ONE, fixmap_slots=permanent - 16).fixmap(1, pae=pae)
        assert whole == (permanent, begin + 512 + 1)


# -- the way to an era ---------------------------------------------------------------------------------------


def test_names_are_in_order_of_age() -> None:
    ages = [tuple(map(int, name.split("."))) for name in NAMES]
    assert ages == sorted(ages)
    assert len(NAMES) == 8
    assert [eras.named(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("2.6.19", "; it lies between 2.6.18 and 2.6.24"),
        ("2.4.0", "; it lies between 2.4 and 2.6.18"),
        ("3.10", "; it lies between 2.6.32 and 5.10"),
        ("6.1.100", "; it lies between 6.1 and 6.12"),
        ("7.1", "; it lies between 6.12 and 7.2"),
        ("7.3", "; the oldest is 2.4, the newest 7.2"),
        ("2.2.26", "; the oldest is 2.4, the newest 7.2"),
        ("zork", ""),
        ("6", ""),
        ("6.", ""),
        ("6.1000", ""),
        ("6.1.1.1.1", ""),
    ],
)
def test_an_era_that_does_not_exist(asked: str, near: str) -> None:
    with pytest.raises(UsageError) as raised:
        eras.named(asked)
    assert raised.value.message == f"no era is named {asked!r}{near}"
    assert raised.value.hint == "the eras are 2.4, 2.6.18, 2.6.24, 2.6.32, 5.10, 6.1, 6.12, 7.2"


@pytest.mark.parametrize("name", NAMES)
def test_marks_select_their_era(name: str) -> None:
    own = frozenset(eras.named(name).marks)
    assert own
    older = frozenset().union(*(era.marks for era in ALL[: NAMES.index(name)]))
    assert not own & older
    assert eras.shown(own).name == name
    assert eras.shown(own | older).name == name
    assert eras.shown(own | {"a symbol of no meaning"}).name == name


def test_all_marks_of_an_era_are_needed() -> None:
    # The CPU entry area came with 4.15, page_type with 4.18.
    assert eras.named("5.10").marks == ("page.page_type", "cpu_entry_area.tss")
    for mark in eras.named("5.10").marks:
        assert eras.shown(frozenset(("page.flags", mark))).name == "2.4"


@pytest.mark.parametrize(
    ("release", "first_had", "era"),
    [
        ("2.6.22", 2, "2.6.18"),  # zones know their span; CFS is for 2.6.23
        ("3.10", 4, "2.6.32"),  # vmap_area is there, page_type is not
        ("5.4", 6, "5.10"),  # page_type and the CPU entry area
        ("5.15", 7, "6.1"),  # kmap_local
        ("6.6", 7, "6.1"),
        ("6.18", 9, "7.2"),  # trylock_free_pages came with 6.15
    ],
)
def test_a_kernel_between_two_eras(release: str, first_had: int, era: str) -> None:
    assert eras.shown(frozenset(MARKS[:first_had])).name == era, release


def test_a_kernel_that_shows_nothing() -> None:
    with pytest.raises(UsageError, match="shows no era's marks") as raised:
        eras.shown(frozenset())
    assert raised.value.hint == "an i386 kernel of any era has page.flags"


def test_the_observer_looks_for_every_mark() -> None:
    assert [mark for era in ALL for mark in era.marks] == list(MARKS)


# -- the table's own order -----------------------------------------------------------------------------------

VERSION = r"2\.4\.0|2\.4\.16|2\.4\.18-14|2\.6\.18|2\.6\.24|2\.6\.32|5\.10|6\.1|6\.12|7\.2"
SOURCE = re.compile(rf"(?P<version>{VERSION}) [a-z][\w./-]*(\.(h|c|S|in|lds|rst)|Kconfig|Makefile)( |,|;|$)")
CELLS = [(field, *cell) for field, cells in TABLE.items() for cell in cells]


@pytest.mark.parametrize("field", TABLE)
def test_cells_are_in_order_and_no_value_stands_twice(field: str) -> None:
    cells = TABLE[field]
    firsts = [cell[0] for cell in cells]
    assert firsts[0] == NAMES[0]
    assert firsts == sorted(set(firsts), key=NAMES.index)
    assert all(this[1] != following[1] for this, following in pairwise(cells))


@pytest.mark.parametrize(("field", "first", "value", "source"), CELLS, ids=[f"{f}-{s}" for f, s, *_ in CELLS])
def test_every_cell_names_a_file_of_its_own_era(field: str, first: str, value: object, source: str) -> None:
    match = SOURCE.match(source)
    assert match, source
    version = match["version"]
    assert version.startswith("2.4.") if first == "2.4" else version == first
    assert "://" not in source
    assert getattr(eras.named(first), field) == value
    assert eras.source(first, field) == source


def test_a_value_holds_until_the_next_cell() -> None:
    assert eras.source("2.6.24", "fixaddr_top") == eras.source("2.6.18", "fixaddr_top") != ""
    assert eras.source("2.4", "fixaddr_top").startswith("2.4.0 include/asm/fixmap.h")
    assert eras.source("7.2", "kmap_slots_per_cpu") == eras.source("6.1", "kmap_slots_per_cpu")


def test_sources_of_what_does_not_exist() -> None:
    with pytest.raises(UsageError, match=r"no era is named '2\.5'"):
        eras.source("2.5", "pkmap_base")
    with pytest.raises(UsageError, match="no era has a field 'pkmap_bse'") as raised:
        eras.source("2.4", "pkmap_bse")
    assert raised.value.hint == f"the fields are {', '.join(TABLE)}"


def test_every_field_has_its_cells() -> None:
    assert {field.name for field in fields(Era)} == {"name", *TABLE}


@pytest.mark.parametrize("field", [field.name for field in fields(Era) if field.name != "name"])
def test_values_have_the_types_that_readers_are_told(field: str) -> None:
    annotation = {each.name: str(each.type) for each in fields(Era)}[field]
    allowed = {
        "bool": (bool,),
        "int": (int,),
        "int | None": (int, type(None)),
        "str": (str,),
    }.get(annotation, (tuple, type(None)) if "None" in annotation else (tuple,))
    for era in ALL:
        assert type(getattr(era, field)) in allowed, era.name


def test_pairs() -> None:
    for era in ALL:
        for field in PAIRS:
            pair = getattr(era, field)
            assert pair is None or len(pair) == 2
    assert {field for field in TABLE if "tuple[int, int]" in str(Era.__annotations__[field])} < PAIRS


def test_eras_are_frozen() -> None:
    with pytest.raises(AttributeError):
        SIX_ONE.max_order = 12  # type: ignore[misc]
    assert not hasattr(SIX_ONE, "__dict__")

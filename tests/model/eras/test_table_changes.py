"""When what changed: the eras in which a switch is on, and what each chose, by the kernel's files."""

from __future__ import annotations

import pytest
from every_era import ALL, SIX_ONE, since

from kvmtools.model.eras import COLUMNS

MIB = 1 << 20

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
    # 2.6.24 init_32.c: pfn < max_low_pfn is asked once per large page
    "direct_map_overruns": since("2.4", "2.6.24"),
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
    "mem_map_spans_ram": since("6.12"),  # mm/mm_init.c: node_spanned_pages = node_end_pfn - node_start_pfn
    "max_mapnr_aligned": ["7.2"],  # mm/mm_init.c: max_mapnr = end - start
    "tail_initialised": ["7.2"],
    "mem_edits": ["2.4"],  # setup.c: mem=exactmap
    "memmap_list": since("5.10"),  # e820.c: parse_memmap_opt looks for commas
    "movable_percent": since("5.10"),  # page_alloc.c: cmdline_parse_core
    # mm/page_alloc.c: #if !defined(CONFIG_FLAT_NODE_MEM_MAP) around init_unavailable_range
    "flat_holes_initialised": [*since("2.4", "2.6.32"), *since("6.1")],
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
    "checks_counts": since("2.6.18"),  # mm/page_alloc.c: free_pages_check
    "debug_vm": since("2.6.18"),  # lib/Kconfig.debug
    "split_keeps_lower_half": ["2.4"],  # mm/page_alloc.c: expand
    "buddy_merge_likely": since("5.10"),  # mm/page_alloc.c
    "frees_tails": since("5.10"),  # mm/page_alloc.c: __free_pages
    "pcp_huge_pages": since("6.12"),  # page_alloc.c: pindex_to_order returns HPAGE_PMD_ORDER
    "keeps_reserved": ["2.4"],  # mm/page_alloc.c: __free_pages asks PageReserved
}


@pytest.mark.parametrize("field", ON)
def test_switches(field: str) -> None:
    assert [era.name for era in ALL if getattr(era, field)] == ON[field]


def test_every_switch_is_in_the_list_above() -> None:
    assert {field for field in COLUMNS if isinstance(getattr(SIX_ONE, field), bool)} == set(ON)


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
    # e820.c: parse_memmap_opt
    "memmap_forms": "(empty) @#$ @#$ @#$ @#$!% @#$!% @#$!% @#$!%",
    # init/main.c: set_debug_rodata
    "rodata_option": "none none none none letters words words words",
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
    assert [getattr(era, field).replace(" ", "_") or "(empty)" for era in ALL] == WORDS[field].split()


def test_every_choice_is_in_the_list_above() -> None:
    assert {field for field in COLUMNS if isinstance(getattr(SIX_ONE, field), str)} == set(WORDS)


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

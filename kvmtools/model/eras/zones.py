"""What differs between the eras in RAM, zones and the buddy allocator.

A part of the table of eras; :mod:`kvmtools.model.eras.table` says how it is written.
"""

from __future__ import annotations

ZONES: dict[str, tuple[tuple[str, object, str], ...]] = {
    # -- RAM ------------------------------------------------------------------------------------------------
    "mem_edits": (
        ("2.4", True, "2.4.18-14 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("2.6.18", False, "2.6.18 arch/i386/kernel/setup.c parse_cmdline_early"),
    ),
    "memmap_forms": (
        ("2.4", "", "2.4.18-14 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("2.6.18", "@#$", "2.6.18 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("5.10", "@#$!%", "5.10 arch/x86/kernel/e820.c parse_memmap_one"),
    ),
    "memmap_list": (
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c; 2.6.32 arch/x86/kernel/e820.c parse_memmap_opt"),
        ("5.10", True, "5.10 arch/x86/kernel/e820.c parse_memmap_opt"),
    ),
    "ram_types": (
        (
            "2.4",
            (1,),
            "2.4.18-14 arch/i386/kernel/setup.c find_max_pfn; 2.6.32 arch/x86/kernel/e820.c e820_find_active_region",
        ),
        ("5.10", (1, 128), "5.10 arch/x86/kernel/e820.c e820__memblock_setup"),
        ("7.2", (1,), "7.2 arch/x86/kernel/e820.c e820__memblock_setup"),
    ),
    "ram_end_types": (
        ("2.4", (1,), "2.4.18-14 arch/i386/kernel/setup.c find_max_pfn"),
        ("6.12", (1, 3), "6.12 arch/x86/kernel/e820.c e820__end_ram_pfn"),
    ),
    "ram_end_limited": (
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c find_max_pfn"),
        ("2.6.32", True, "2.6.32 arch/x86/kernel/e820.c e820_end_pfn, MAX_ARCH_PFN"),
    ),
    "bios_area_trimmed": (
        ("2.4", True, "2.4.18-14 arch/i386/kernel/setup.c copy_e820_map; 2.6.24 arch/x86/kernel/e820_32.c"),
        ("2.6.32", False, "2.6.32 arch/x86/kernel/e820.c __append_e820_map"),
    ),
    "ram_trimmed": (
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c setup_memory_region"),
        ("5.10", True, "5.10 arch/x86/kernel/setup.c trim_bios_range, e820_add_kernel_range"),
    ),
    "ram_must_fit": (
        ("2.4", False, "2.4.18-14 arch/i386/mm/init.c page_is_ram"),
        ("5.10", True, "5.10 arch/x86/kernel/e820.c e820__memblock_setup"),
    ),
    "ram_ends_at_max_pfn": (
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c"),
        ("2.6.32", True, "2.6.32 arch/x86/mm/init_32.c initmem_init"),
        ("5.10", False, "5.10 arch/x86/kernel/e820.c e820__memblock_setup"),
        ("7.2", True, "7.2 arch/x86/kernel/e820.c e820__memblock_setup"),
    ),
    # -- zones ----------------------------------------------------------------------------------------------
    "first_mib_reserved": (
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c; 5.10 arch/x86/kernel/setup.c trim_low_memory_range"),
        ("6.1", True, "6.1 arch/x86/realmode/init.c reserve_real_mode"),
    ),
    "highmem64g": (
        ("2.4", True, "2.4.18-14 arch/i386/config.in CONFIG_HIGHMEM64G"),
        ("7.2", False, "7.2 arch/x86/Kconfig HIGHMEM4G"),
    ),
    "pae_needs_highmem": (
        ("2.4", True, "2.4.18-14 arch/i386/config.in CONFIG_X86_PAE"),
        ("2.6.24", False, "2.6.24 arch/x86/Kconfig X86_PAE"),
    ),
    "zones_cover_holes": (
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c paging_init"),
        ("2.6.32", False, "2.6.32 arch/x86/mm/init_32.c initmem_init"),
    ),
    "numa": (
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("2.6.18", True, "2.6.18 arch/i386/Kconfig NUMA"),
        ("7.2", False, "7.2 arch/x86/Kconfig NUMA"),
    ),
    "discontigmem": (
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("2.6.18", True, "2.6.18 arch/i386/Kconfig ARCH_DISCONTIGMEM_ENABLE"),
        ("5.10", False, "5.10 arch/x86/Kconfig ARCH_SPARSEMEM_ENABLE"),
    ),
    "zone_names": (
        ("2.4", ("DMA", "NORMAL", "HIGHMEM"), "2.4.16 include/linux/mmzone.h ZONE_DMA"),
        ("2.6.18", ("DMA", "DMA32", "NORMAL", "HIGHMEM"), "2.6.18 include/linux/mmzone.h ZONE_DMA"),
        ("2.6.24", ("DMA", "NORMAL", "HIGHMEM", "MOVABLE"), "2.6.24 include/linux/mmzone.h enum zone_type"),
    ),
    # -- the buddy allocator --------------------------------------------------------------------------------
    "movable_percent": (
        ("2.4", False, "2.4.18-14 mm/page_alloc.c; 2.6.32 mm/page_alloc.c cmdline_parse_core"),
        ("5.10", True, "5.10 mm/page_alloc.c cmdline_parse_core"),
    ),
    "max_order": (
        ("2.4", 10, "2.4.16 include/linux/mmzone.h MAX_ORDER"),
        ("2.6.18", 11, "2.6.18 include/linux/mmzone.h MAX_ORDER"),
    ),
    "buddy_mark": (
        ("2.4", "bitmap", "2.4.18-14 mm/page_alloc.c __free_pages_ok"),
        ("2.6.18", "PG_buddy", "2.6.18 mm/page_alloc.c set_page_order"),
        ("5.10", "page_type bit", "5.10 include/linux/page-flags.h PG_buddy"),
        ("6.12", "page_type byte", "6.12 include/linux/page-flags.h PGTY_buddy"),
    ),
    "highmem_freed_singly": (
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c mem_init"),
        ("7.2", False, "7.2 mm/memblock.c __free_memory_core"),
    ),
    "buddy_checks_pfn": (
        ("2.4", False, "2.4.18-14 mm/page_alloc.c __free_pages_ok"),
        ("2.6.18", True, "2.6.18 mm/page_alloc.c page_is_buddy"),
        ("6.1", False, "6.1 mm/page_alloc.c __free_one_page"),
    ),
    "buddy_checks": (
        ("2.4", ("idle", "aligned", "in zone", "new"), "2.4.16 mm/page_alloc.c __free_pages_ok, rmqueue"),
        (
            "2.6.18",
            ("held", "idle", "aligned", "buddy idle", "new"),
            "2.6.18 mm/page_alloc.c __free_one_page, page_is_buddy, prep_new_page; include/linux/mm.h",
        ),
        (
            "2.6.24",
            ("idle", "buddy idle", "new"),
            "2.6.24 mm/page_alloc.c free_pages_check, page_is_buddy, prep_new_page",
        ),
        ("2.6.32", ("idle", "new"), "2.6.32 mm/page_alloc.c free_pages_check, check_new_page"),
        ("6.12", (), "6.12 mm/page_alloc.c check_pages_enabled"),
    ),
    "debug_vm": (
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("2.6.18", True, "2.6.18 lib/Kconfig.debug DEBUG_VM"),
    ),
    "checked_at_free": (
        ("2.4", ("locked", "lru", "active"), "2.4.16 mm/page_alloc.c __free_pages_ok"),
        (
            "2.6.18",
            (
                "locked", "active", "lru", "private", "writeback", "swapcache", "reclaim", "slab", "reserved", "buddy",
            ),
            "2.6.18 mm/page_alloc.c free_pages_check",
        ),
        (
            "2.6.24",
            ("locked", "active", "lru", "private", "writeback", "swapcache", "slab", "reserved", "buddy"),
            "2.6.24 mm/page_alloc.c free_pages_check",
        ),
        (
            "2.6.32",
            (
                "locked", "active", "lru", "private", "private_2", "writeback", "swapcache", "slab", "reserved",
                "buddy", "unevictable", "mlocked",
            ),
            "2.6.32 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_FREE",
        ),
        (
            "5.10",
            (
                "locked", "active", "lru", "private", "private_2", "writeback", "slab", "reserved", "unevictable",
                "mlocked",
            ),
            "5.10 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_FREE",
        ),
        (
            "6.12",
            ("locked", "active", "lru", "private", "private_2", "writeback", "reserved", "unevictable", "mlocked"),
            "6.12 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_FREE",
        ),
    ),
    "checked_at_prep": (
        ("2.4", ("lru", "active"), "2.4.16 mm/page_alloc.c rmqueue"),
        (
            "2.6.18",
            (
                "locked", "active", "lru", "private", "writeback", "swapcache", "reclaim", "slab", "reserved", "buddy",
                "dirty",
            ),
            "2.6.18 mm/page_alloc.c prep_new_page",
        ),
        (
            "2.6.24",
            ("locked", "active", "lru", "private", "writeback", "swapcache", "slab", "reserved", "buddy", "dirty"),
            "2.6.24 mm/page_alloc.c prep_new_page",
        ),
        ("2.6.32", None, "2.6.32 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_PREP"),
    ),
    "cleared_at_free": (
        ("2.4", ("referenced", "dirty"), "2.4.16 mm/page_alloc.c __free_pages_ok"),
        ("2.6.18", ("dirty",), "2.6.18 mm/page_alloc.c free_pages_check"),
        ("2.6.32", None, "2.6.32 mm/page_alloc.c free_pages_check"),
    ),
    "checks_counts": (
        ("2.4", False, "2.4.16 mm/page_alloc.c __free_pages_ok, rmqueue"),
        ("2.6.18", True, "2.6.18 mm/page_alloc.c free_pages_check, prep_new_page"),
    ),
    "checks_head_only": (
        ("2.4", ("idle", "new"), "2.4.16 mm/page_alloc.c __free_pages_ok, rmqueue"),
        ("2.6.18", ("new",), "2.6.18 mm/page_alloc.c prep_new_page"),
        ("2.6.32", (), "2.6.32 mm/page_alloc.c prep_new_page, check_new_page"),
    ),
    "list_poison": (
        ("2.4", None, "2.4.18-14 include/linux/list.h list_del"),
        ("2.6.18", (0x0010_0100, 0x0020_0200), "2.6.18 include/linux/poison.h LIST_POISON1, LIST_POISON2"),
        ("5.10", (0x100, 0x122), "5.10 include/linux/poison.h LIST_POISON1, LIST_POISON2"),
    ),
    "split_keeps_lower_half": (
        ("2.4", True, "2.4.18-14 mm/page_alloc.c expand"),
        ("2.6.18", False, "2.6.18 mm/page_alloc.c expand"),
    ),
    "boot_orders": (
        ("2.4", (0,), "2.4.18-14 mm/bootmem.c free_all_bootmem_core"),
        ("2.6.18", (5, 0), "2.6.18 mm/bootmem.c free_all_bootmem_core"),
        ("5.10", None, "5.10 mm/memblock.c __free_pages_memory"),
    ),
    "buddy_merge_likely": (
        ("2.4", False, "2.4.18-14 mm/page_alloc.c __free_pages_ok; 2.6.32 mm/page_alloc.c __free_one_page"),
        ("5.10", True, "5.10 mm/page_alloc.c buddy_merge_likely"),
    ),
    "frees_tails": (
        ("2.4", False, "2.4.18-14 mm/page_alloc.c __free_pages; 2.6.32 mm/page_alloc.c __free_pages"),
        ("5.10", True, "5.10 mm/page_alloc.c __free_pages"),
    ),
    "keeps_reserved": (
        ("2.4", True, "2.4.16 mm/page_alloc.c __free_pages"),
        ("2.6.18", False, "2.6.18 mm/page_alloc.c __free_pages"),
    ),
}  # fmt: skip

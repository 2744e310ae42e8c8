"""What differs between the eras in pkmap, ``mem_map`` and ``struct page``.

A part of the table of eras; :mod:`kvmtools.model.eras.table` says how it is written.
"""

from __future__ import annotations

PAGES: dict[str, tuple[tuple[str, object, str], ...]] = {
    # -- pkmap and the slots of the fixmap ------------------------------------------------------------------
    "page_address": (
        ("2.4", "member", "2.4.16 include/asm-i386/pgtable.h page_address"),
        ("2.6.18", "pool", "2.6.18 mm/highmem.c page_address_pool"),
        ("5.10", "indexed", "5.10 mm/highmem.c set_page_address"),
    ),
    "hash_multiplier": (
        ("2.4", None, "2.4.16 include/asm-i386/pgtable.h page_address"),
        ("2.6.18", 0x9E37_0001, "2.6.18 include/linux/hash.h GOLDEN_RATIO_PRIME"),
        ("5.10", 0x61C8_8647, "5.10 include/linux/hash.h GOLDEN_RATIO_32"),
    ),
    "flush_tlb_always": (
        ("2.4", True, "2.4.18-14 mm/highmem.c flush_all_zero_pkmaps"),
        ("2.6.32", False, "2.6.32 mm/highmem.c flush_all_zero_pkmaps"),
    ),
    "kmap_flush_unused": (
        ("2.4", False, "2.4.18-14 mm/highmem.c"),
        ("2.6.24", True, "2.6.24 mm/highmem.c kmap_flush_unused"),
    ),
    "interrupt_bugs": (
        ("2.4", ("kmap", "kunmap"), "2.4.0 include/asm-i386/highmem.h kmap, kunmap"),
        ("2.6.18", ("kunmap",), "2.6.18 arch/i386/mm/highmem.c kunmap; 2.6.32 arch/x86/mm/highmem_32.c"),
        ("5.10", (), "5.10 include/linux/highmem.h kmap, kunmap"),
    ),
    "kmap_slots": (
        ("2.4", "typed", "2.4.18-14 include/asm-i386/highmem.h kmap_atomic"),
        ("5.10", "per-CPU stack", "5.10 include/linux/highmem.h kmap_atomic_idx_push"),
        ("6.1", "per-task", "6.1 mm/highmem.c kmap_local_idx_push"),
    ),
    "kmap_slots_per_cpu": (
        ("2.4", 7, "2.4.18-14 include/asm-i386/kmap_types.h KM_TYPE_NR"),
        ("2.6.18", 13, "2.6.18 include/asm-i386/kmap_types.h KM_TYPE_NR"),
        ("2.6.32", 19, "2.6.32 include/asm-generic/kmap_types.h KM_TYPE_NR"),
        ("5.10", 20, "5.10 include/asm-generic/kmap_types.h KM_TYPE_NR"),
        ("6.1", 16, "6.1 include/asm-generic/kmap_size.h KM_MAX_IDX"),
    ),
    "kmap_slots_always": (
        ("2.4", False, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("5.10", True, "5.10 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
    ),
    "kmap_stale": (
        ("2.4", True, "2.4.18-14 include/asm-i386/highmem.h kunmap_atomic"),
        ("2.6.24", False, "2.6.24 arch/x86/mm/highmem_32.c kunmap_atomic"),
    ),
    # -- mem_map --------------------------------------------------------------------------------------------
    "page_struct_size": (
        ("2.4", 64, "2.4.16 include/linux/mm.h struct page"),
        ("2.6.18", 32, "2.6.18 include/linux/mm.h struct page"),
    ),
    "page_members": (
        (
            "2.4",
            (("next", 0), ("refcount", 20), ("flags", 24)),
            "2.4.18-14 include/linux/mm.h struct page",
        ),
        (
            "2.6.18",
            (("flags", 0), ("refcount", 4), ("mapcount", 8), ("private", 12), ("next", 24)),
            "2.6.18 include/linux/mm.h struct page; 2.6.24 include/linux/mm_types.h struct page",
        ),
        (
            "5.10",
            (("flags", 0), ("next", 4), ("private", 20), ("mapcount", 24), ("refcount", 28)),
            "5.10 include/linux/mm_types.h struct page",
        ),
    ),
    "page_flags": (
        (
            "2.4",
            (
                "locked", "error", "referenced", "uptodate", "dirty", "unused", "lru", "active", "slab", "bit9", "skip",
                "highmem", "checked", "arch_1", "reserved", "launder",
            ),
            "2.4.16 include/linux/mm.h PG_locked",
        ),
        (
            "2.6.18",
            (
                "locked", "error", "referenced", "uptodate", "dirty", "lru", "active", "slab", "checked", "arch_1",
                "reserved", "private", "writeback", "nosave", "compound", "swapcache", "mappedtodisk", "reclaim",
                "nosave_free", "buddy",
            ),
            "2.6.18 include/linux/page-flags.h PG_locked",
        ),
        (
            "2.6.24",
            (
                "locked", "error", "referenced", "uptodate", "dirty", "lru", "active", "slab", "owner_priv_1", "arch_1",
                "reserved", "private", "writeback", "bit13", "compound", "swapcache", "mappedtodisk", "reclaim",
                "bit18", "buddy",
            ),
            "2.6.24 include/linux/page-flags.h PG_locked",
        ),
        (
            "2.6.32",
            (
                "locked", "error", "referenced", "uptodate", "dirty", "lru", "active", "slab", "owner_priv_1", "arch_1",
                "reserved", "private", "private_2", "writeback", "head", "tail", "swapcache", "mappedtodisk", "reclaim",
                "buddy", "swapbacked", "unevictable", "mlocked", "uncached",
            ),
            "2.6.32 include/linux/page-flags.h enum pageflags",
        ),
        (
            "5.10",
            (
                "locked", "referenced", "uptodate", "dirty", "lru", "active", "workingset", "waiters", "error", "slab",
                "owner_priv_1", "arch_1", "reserved", "private", "private_2", "writeback", "head", "mappedtodisk",
                "reclaim", "swapbacked", "unevictable", "mlocked", "uncached",
            ),
            "5.10 include/linux/page-flags.h enum pageflags",
        ),
        (
            "6.12",
            (
                "locked", "writeback", "referenced", "uptodate", "dirty", "lru", "head", "waiters", "active",
                "workingset", "owner_priv_1", "owner_2", "arch_1", "reserved", "private", "private_2", "reclaim",
                "swapbacked", "unevictable", "mlocked", "arch_2",
            ),
            "6.12 include/linux/page-flags.h enum pageflags",
        ),
        (
            "7.2",
            (
                "locked", "writeback", "referenced", "uptodate", "dirty", "lru", "head", "waiters", "active",
                "workingset", "owner_priv_1", "owner_2", "arch_1", "reserved", "private", "private_2", "reclaim",
                "swapbacked", "unevictable", "dropbehind", "mlocked", "arch_2",
            ),
            "7.2 include/linux/page-flags.h enum pageflags",
        ),
    ),
    "page_types": (
        ("2.4", (), "2.4.16 include/linux/mm.h struct page; 2.6.32 include/linux/mm_types.h struct page"),
        (
            "5.10",
            (("buddy", 0x80), ("offline", 0x100), ("kmemcg", 0x200), ("table", 0x400), ("guard", 0x800)),
            "5.10 include/linux/page-flags.h PG_buddy",
        ),
        (
            "6.1",
            (("buddy", 0x80), ("offline", 0x100), ("table", 0x200), ("guard", 0x400)),
            "6.1 include/linux/page-flags.h PG_buddy",
        ),
        (
            "6.12",
            (
                ("buddy", 0xF0), ("offline", 0xF1), ("table", 0xF2), ("guard", 0xF3), ("hugetlb", 0xF4), ("slab", 0xF5),
                ("zsmalloc", 0xF6), ("unaccepted", 0xF7),
            ),
            "6.12 include/linux/page-flags.h enum pagetype",
        ),
        (
            "7.2",
            (
                ("buddy", 0xF0), ("offline", 0xF1), ("table", 0xF2), ("guard", 0xF3), ("hugetlb", 0xF4), ("slab", 0xF5),
                ("zsmalloc", 0xF6), ("unaccepted", 0xF7), ("large_kmalloc", 0xF8),
            ),
            "7.2 include/linux/page-flags.h enum pagetype",
        ),
    ),
    "section_size_bits": (
        ("2.4", None, "2.4.16 include/linux/mmzone.h"),
        ("2.6.18", (26, 30), "2.6.18 include/asm-i386/sparsemem.h SECTION_SIZE_BITS"),
        ("2.6.32", (26, 29), "2.6.32 arch/x86/include/asm/sparsemem.h SECTION_SIZE_BITS"),
    ),
    "max_physmem_bits": (
        ("2.4", None, "2.4.16 include/linux/mmzone.h"),
        ("2.6.18", (32, 36), "2.6.18 include/asm-i386/sparsemem.h MAX_PHYSMEM_BITS"),
    ),
    "section_flag_bits": (
        ("2.4", None, "2.4.16 include/linux/mmzone.h"),
        ("2.6.18", 2, "2.6.18 include/linux/mmzone.h SECTION_MAP_LAST_BIT"),
        ("5.10", 4, "5.10 include/linux/mmzone.h SECTION_MAP_LAST_BIT"),
    ),
    "mem_map_rounded": (
        ("2.4", False, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("2.6.18", True, "2.6.18 mm/page_alloc.c alloc_node_mem_map"),
    ),
    "max_mapnr_aligned": (
        ("2.4", False, "2.4.18-14 arch/i386/mm/init.c mem_init"),
        ("7.2", True, "7.2 mm/mm_init.c alloc_node_mem_map"),
    ),
    "tail_initialised": (
        ("2.4", False, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("7.2", True, "7.2 mm/mm_init.c memmap_init"),
    ),
    "zone_flag_bits": (
        ("2.4", 8, "2.4.18-14 include/linux/mm.h ZONE_SHIFT"),
        ("2.6.18", None, "2.6.18 include/linux/mm.h ZONES_WIDTH"),
    ),
    "hole_refcount": (
        ("2.4", 0, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("2.6.18", 1, "2.6.18 mm/page_alloc.c memmap_init_zone"),
    ),
    "hole_mapcount": (
        ("2.4", None, "2.4.18-14 include/linux/mm.h struct page"),
        ("2.6.18", -1, "2.6.18 mm/page_alloc.c reset_page_mapcount"),
    ),
    "hole_zone": (
        ("2.4", "spanning", "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("5.10", "following", "5.10 mm/page_alloc.c memmap_init, init_unavailable_range"),
    ),
    "flat_holes_initialised": (
        ("2.4", True, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("5.10", False, "5.10 mm/page_alloc.c init_unavailable_range; mm/Kconfig"),
        ("6.1", True, "6.1 mm/page_alloc.c init_unavailable_range"),
    ),
}  # fmt: skip

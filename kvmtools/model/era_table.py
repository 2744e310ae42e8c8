"""What differs between the eras of the i386 kernel: one table, every cell with its source.

A switch is a list of cells ``(since, value, source)``, oldest first: the value holds from that era until the
next cell's era.  What a switch means is said where :class:`kvmtools.model.eras.Era` declares it.  A source is
``version file``, and the symbol where the file has many; the versions are those whose trees were read: 2.4.0, 2.4.16,
2.4.18-14 (Red Hat's), 2.6.18 (CentOS 5's), 2.6.24, 2.6.32, 5.10.223, 6.1, 6.12 and 7.2.13 (Debian's).
"""

from __future__ import annotations

Cell = tuple[str, object, str]

#: Oldest first; each era is named after the kernel that was read for it.
NAMES = ("2.4", "2.6.18", "2.6.24", "2.6.32", "5.10", "6.1", "6.12", "7.2")

#: The switches whose value is a pair ``(non-PAE, PAE)``, where it is one.
PAIRS = frozenset(("page_offsets", "section_size_bits", "max_physmem_bits"))

_3G, _3G_OPT, _2G, _2G_OPT, _1G = 0xC000_0000, 0xB000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000

TABLE: dict[str, tuple[Cell, ...]] = {
    # Which members, symbols and enumerators a kernel of the era was the first to have.
    "marks": (
        ("2.4", ("page.flags",), "2.4.16 include/linux/mm.h"),
        ("2.6.18", ("zone.spanned_pages",), "2.6.18 include/linux/mmzone.h"),
        ("2.6.24", ("task_struct.se",), "2.6.24 include/linux/sched.h"),
        ("2.6.32", ("vmap_area.va_start",), "2.6.32 mm/vmalloc.c"),
        (
            "5.10",
            ("page.page_type", "cpu_entry_area.tss"),
            "5.10 include/linux/mm_types.h, arch/x86/include/asm/cpu_entry_area.h",
        ),
        ("6.1", ("task_struct.kmap_ctrl",), "6.1 include/linux/sched.h"),
        ("6.12", ("PGTY_buddy",), "6.12 include/linux/page-flags.h"),
        ("7.2", ("zone.trylock_free_pages",), "7.2 include/linux/mmzone.h"),
    ),
    # -- the address space ------------------------------------------------------------------------------------
    "page_offsets": (
        ("2.4", ((_3G,), (_3G,)), "2.4.16 include/asm-i386/page.h __PAGE_OFFSET"),
        # What was called 2G was 0x78000000 then, and PAE had no choice.
        ("2.6.18", ((_3G, _3G_OPT, _2G_OPT, _1G), (_3G,)), "2.6.18 arch/i386/Kconfig VMSPLIT, PAGE_OFFSET"),
        ("2.6.24", ((_3G, _3G_OPT, _2G, _2G_OPT, _1G), (_3G, _2G, _1G)), "2.6.24 arch/x86/Kconfig VMSPLIT"),
    ),
    "most_cpus": (
        ("2.4", 32, "2.4.18-14 include/linux/threads.h NR_CPUS"),
        ("2.6.18", 255, "2.6.18 arch/i386/Kconfig NR_CPUS"),
        ("2.6.32", 512, "2.6.32 arch/x86/Kconfig NR_CPUS, with X86_BIGSMP"),
        ("5.10", 64, "5.10 arch/x86/Kconfig NR_CPUS_RANGE_END, with X86_BIGSMP"),
        ("7.2", 8, "7.2 arch/x86/Kconfig NR_CPUS_RANGE_END"),
    ),
    "fixaddr_top": (
        ("2.4", 0xFFFF_E000, "2.4.0 include/asm/fixmap.h FIXADDR_TOP"),
        ("2.6.18", 0xFFFF_F000, "2.6.18 include/asm-i386/fixmap.h __FIXADDR_TOP, FIX_HOLE"),
    ),
    "fixmap_hole": (
        ("2.4", False, "2.4.18-14 include/asm-i386/fixmap.h enum fixed_addresses"),
        ("2.6.18", True, "2.6.18 include/asm-i386/fixmap.h FIX_HOLE"),
    ),
    "reservetop_option": (
        ("2.4", "none", "2.4.0 include/asm/fixmap.h FIXADDR_TOP; 2.6.18 include/asm-i386/fixmap.h __FIXADDR_TOP"),
        ("2.6.24", "exact and vmalloc", "2.6.24 arch/x86/mm/pgtable_32.c reserve_top_address"),
        ("2.6.32", "exact", "2.6.32 arch/x86/mm/pgtable.c reserve_top_address"),
        ("5.10", "rounded", "5.10 arch/x86/mm/pgtable.c reserve_top_address"),
    ),
    "fixmap_slots": (
        # Local APIC and 8 IO-APICs; then hole, vdso, 64 IO-APICs, 4 for ACPI, PCI configuration; two for consoles more;
        # ACPI's gave way to two for text_poke, which went away in their turn, as did the vdso's.
        ("2.4", 9, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.18", 72, "2.6.18 include/asm-i386/fixmap.h enum fixed_addresses"),
        ("2.6.24", 74, "2.6.24 include/asm-x86/fixmap_32.h enum fixed_addresses"),
        ("2.6.32", 72, "2.6.32 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
        ("5.10", 69, "5.10 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
    ),
    "fixmap_boot_slots": (
        ("2.4", 0, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.18", 16, "2.6.18 include/asm-i386/fixmap.h NR_FIX_BTMAPS"),
        ("2.6.32", 256, "2.6.32 arch/x86/include/asm/fixmap.h NR_FIX_BTMAPS, FIX_BTMAPS_SLOTS"),
        ("5.10", 512, "5.10 arch/x86/include/asm/fixmap.h TOTAL_FIX_BTMAPS"),
    ),
    "fixmap_boot_start": (
        ("2.4", "next", "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.32", "multiple", "2.6.32 arch/x86/include/asm/fixmap.h FIX_BTMAP_END"),
        ("5.10", "one table", "5.10 arch/x86/include/asm/fixmap.h FIX_BTMAP_END"),
    ),
    "image_at": (
        ("2.4", 1 << 20, "2.4.18-14 arch/i386/vmlinux.lds"),
        ("2.6.32", 16 << 20, "2.6.32 arch/x86/Kconfig PHYSICAL_START"),
    ),
    "cpu_entry_area": (
        ("2.4", False, "2.4.16 include/asm-i386/pgtable.h VMALLOC_END"),
        ("5.10", True, "5.10 arch/x86/include/asm/pgtable_32_areas.h CPU_ENTRY_AREA_BASE"),
    ),
    "cpu_entry_area_size": (
        ("2.4", 0, "2.4.16 include/asm-i386/pgtable.h VMALLOC_END"),
        ("5.10", 43 << 12, "5.10 arch/x86/include/asm/cpu_entry_area.h struct cpu_entry_area"),
    ),
    "ldt_remap": (
        ("2.4", False, "2.4.16 include/asm-i386/pgtable.h VMALLOC_END"),
        ("5.10", True, "5.10 arch/x86/include/asm/pgtable_32_areas.h LDT_BASE_ADDR"),
    ),
    "pkmap_base": (
        ("2.4", 0xFE00_0000, "2.4.0 include/asm-i386/highmem.h PKMAP_BASE; Gorman 2004, 10.1"),
        ("2.6.18", None, "2.6.18 include/asm-i386/highmem.h PKMAP_BASE"),
    ),
    "pkmap_below": (
        ("2.4", "fixed", "2.4.0 include/asm-i386/highmem.h PKMAP_BASE"),
        ("2.6.18", "fixmap", "2.6.18 include/asm-i386/highmem.h PKMAP_BASE"),
        ("5.10", "ldt", "5.10 arch/x86/include/asm/pgtable_32_areas.h PKMAP_BASE"),
    ),
    "vmalloc_start_rounding": (
        ("2.4", 8 << 20, "2.4.16 include/asm-i386/pgtable.h VMALLOC_START"),
        ("2.6.32", 1, "2.6.32 arch/x86/include/asm/pgtable_32_types.h VMALLOC_START"),
    ),
    "vmalloc_option": (
        ("2.4", "none", "2.4.18-14 include/asm-i386/page.h __VMALLOC_RESERVE"),
        ("2.6.18", "exact", "2.6.18 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("2.6.32", "plus offset", "2.6.32 arch/x86/mm/pgtable_32.c parse_vmalloc"),
    ),
    "maxmem_below": (
        ("2.4", "top", "2.4.18-14 include/asm-i386/page.h MAXMEM"),
        ("2.6.32", "vmalloc_end", "2.6.32 arch/x86/include/asm/pgtable_32_types.h MAXMEM"),
    ),
    # -- kernel page tables -----------------------------------------------------------------------------------
    "nx": (
        ("2.4", False, "2.4.16 include/asm-i386/pgtable.h _PAGE bits"),
        ("2.6.18", True, "2.6.18 include/asm-i386/pgtable.h _PAGE_NX"),
    ),
    "pti": (
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("5.10", True, "5.10 security/Kconfig PAGE_TABLE_ISOLATION"),
    ),
    "noexec_option": (
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c parse_mem_cmdline"),
        ("2.6.18", True, "2.6.18 arch/i386/mm/init.c noexec_setup"),
        ("6.1", False, "6.1 arch/x86/mm/Makefile, without setup_nx.o"),
    ),
    "pti_option": (
        ("2.4", "none", "2.4.18-14 arch/i386/kernel/setup.c parse_mem_cmdline"),
        ("5.10", "before nopti", "5.10 arch/x86/mm/pti.c pti_check_boottime_disable"),
        ("6.12", "below mitigations", "6.12 arch/x86/mm/pti.c pti_check_boottime_disable"),
        ("7.2", "above mitigations", "7.2 arch/x86/mm/pti.c pti_check_boottime_disable"),
    ),
    "zero_page_pdptes": (
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("2.6.32", False, "2.6.32 arch/x86/mm/init_32.c native_pagetable_setup_start"),
    ),
    "first_directory_entry_split": (
        ("2.4", False, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("2.6.32", True, "2.6.32 arch/x86/mm/init.c init_memory_mapping"),
    ),
    "direct_map_overruns": (
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("2.6.32", False, "2.6.32 arch/x86/mm/init.c init_memory_mapping"),
    ),
    "direct_map_holes": (
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("5.10", False, "5.10 arch/x86/mm/init.c init_range_memory_mapping"),
    ),
    "read_only_dirty": (
        ("2.4", True, "2.4.16 include/asm-i386/pgtable.h __PAGE_KERNEL_RO"),
        ("6.12", False, "6.12 arch/x86/include/asm/pgtable_types.h __PAGE_KERNEL_RO"),
    ),
    "image_protection": (
        ("2.4", "none", "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("2.6.18", "large pages", "2.6.18 arch/i386/mm/init.c is_kernel_text; mark_rodata_ro if configured"),
        ("5.10", "sections", "5.10 arch/x86/mm/init_32.c mark_rodata_ro, mark_nxdata_nx"),
    ),
    "vdso_in_fixmap": (
        ("2.4", False, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.18", True, "2.6.18 include/asm-i386/fixmap.h FIX_VDSO"),
        ("5.10", False, "5.10 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
    ),
    "huge_vmalloc": (
        ("2.4", False, "2.4.18-14 mm/vmalloc.c"),
        ("5.10", True, "5.10 arch/x86/Kconfig HAVE_ARCH_HUGE_VMAP"),
    ),
    "software_bits": (
        ("2.4", (), "2.4.16 include/asm-i386/pgtable.h"),
        (
            "2.6.32",
            ((9, "special"), (10, "iomap"), (11, "hidden")),
            "2.6.32 arch/x86/include/asm/pgtable_types.h _PAGE_BIT_UNUSED1, _PAGE_BIT_IOMAP, _PAGE_BIT_HIDDEN",
        ),
        ("5.10", ((9, "special"),), "5.10 arch/x86/include/asm/pgtable_types.h; arch/x86/Kconfig HAVE_ARCH_SOFT_DIRTY"),
        (
            "6.12",
            ((9, "special"), (10, "saved_dirty")),
            "6.12 arch/x86/include/asm/pgtable_types.h _PAGE_BIT_SAVED_DIRTY",
        ),
        (
            "7.2",
            ((9, "special"), (10, "saved_dirty"), (11, "kernel_4k")),
            "7.2 arch/x86/include/asm/pgtable_types.h _PAGE_BIT_KERNEL_4K",
        ),
    ),
    "protnone_bit": (
        ("2.4", 7, "2.4.16 include/asm-i386/pgtable.h _PAGE_PROTNONE"),
        ("2.6.32", 8, "2.6.32 arch/x86/include/asm/pgtable_types.h _PAGE_BIT_PROTNONE"),
    ),
    "large_pages_collapse": (
        ("2.4", False, "2.4.18-14 arch/i386/mm/pageattr.c"),
        ("7.2", True, "7.2 arch/x86/mm/pat/set_memory.c collapse_pmd_page"),
    ),
    "shared_kernel_pmd": (
        ("2.4", True, "2.4.18-14 include/asm-i386/pgalloc.h get_pgd_slow"),
        ("7.2", False, "7.2 arch/x86/mm/pgtable.c pgd_alloc"),
    ),
    "vmalloc_synced": (
        ("2.4", False, "2.4.18-14 arch/i386/mm/fault.c vmalloc_fault"),
        ("5.10", True, "5.10 arch/x86/mm/fault.c arch_sync_kernel_mappings"),
    ),
    "highpte": (
        ("2.4", False, "2.4.18-14 include/asm-i386/pgalloc.h pte_alloc_one"),
        ("2.6.18", True, "2.6.18 arch/i386/mm/pgtable.c pte_alloc_one"),
        ("7.2", False, "7.2 arch/x86/Kconfig"),
    ),
    # -- pkmap and the slots of the fixmap --------------------------------------------------------------------
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
    # -- mem_map ----------------------------------------------------------------------------------------------
    "page_struct_size": (
        ("2.4", 64, "2.4.16 include/linux/mm.h struct page"),
        ("2.6.18", 32, "2.6.18 include/linux/mm.h struct page"),
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
    # -- RAM --------------------------------------------------------------------------------------------------
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
    # -- zones and the buddy allocator ------------------------------------------------------------------------
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
    "buddy_page_type": (
        ("2.4", None, "2.4.16 include/linux/mm.h struct page"),
        ("5.10", 0xFFFF_FF7F, "5.10 include/linux/page-flags.h PAGE_TYPE_OPS"),
        ("6.12", 0xF000_0000, "6.12 include/linux/page-flags.h PAGE_TYPE_OPS"),
    ),
    "highmem_freed_singly": (
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c one_highpage_init"),
        ("7.2", False, "7.2 mm/memblock.c __free_memory_core"),
    ),
    "buddy_checks_pfn": (
        ("2.4", False, "2.4.18-14 mm/page_alloc.c __free_pages_ok"),
        ("2.6.18", True, "2.6.18 mm/page_alloc.c page_is_buddy"),
        ("6.1", False, "6.1 mm/page_alloc.c __free_one_page"),
    ),
}  # fmt: skip

"""What differs between the eras in the kernel's address space and in its page tables.

A part of the table of eras; :mod:`kvmtools.model.eras.table` says how it is written.
"""

from __future__ import annotations

_3G, _3G_OPT, _2G, _2G_OPT, _1G = 0xC000_0000, 0xB000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000

SPACE: dict[str, tuple[tuple[str, object, str], ...]] = {
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
    "rodata_option": (
        ("2.4", "none", "2.4.18-14 arch/i386/kernel/setup.c parse_mem_cmdline"),
        ("5.10", "letters", "5.10 init/main.c set_debug_rodata, lib/kstrtox.c kstrtobool"),
        ("6.1", "words", "6.1 init/main.c set_debug_rodata"),
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
}  # fmt: skip

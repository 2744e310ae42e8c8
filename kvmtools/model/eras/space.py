"""What differs between the eras in the kernel's address space and in its page tables.

A part of the table of eras; :mod:`kvmtools.model.eras.columns` says how it is written.
"""

from __future__ import annotations

from kvmtools.model.eras.columns import Column, PairColumn
from kvmtools.model.eras.dialects import (
    FixmapBootStart,
    ImageProtection,
    MaxmemBelow,
    PkmapBelow,
    PtiOption,
    Reservetop,
    RodataOption,
    VmallocOption,
)

_3G, _3G_OPT, _2G, _2G_OPT, _1G = 0xC000_0000, 0xB000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000


class SpaceColumns:
    """What differs between the eras in the kernel's address space and in its page tables."""

    page_offsets = PairColumn[tuple[tuple[int, ...], tuple[int, ...]]](
        ("2.4", ((_3G,), (_3G,)), "2.4.16 include/asm-i386/page.h __PAGE_OFFSET"),
        # What was called 2G was 0x78000000 then, and PAE had no choice.
        ("2.6.18", ((_3G, _3G_OPT, _2G_OPT, _1G), (_3G,)), "2.6.18 arch/i386/Kconfig VMSPLIT, PAGE_OFFSET"),
        ("2.6.24", ((_3G, _3G_OPT, _2G, _2G_OPT, _1G), (_3G, _2G, _1G)), "2.6.24 arch/x86/Kconfig VMSPLIT"),
    )
    """The values of ``PAGE_OFFSET`` that the build configuration offers."""
    most_cpus = Column[int](
        ("2.4", 32, "2.4.18-14 include/linux/threads.h NR_CPUS"),
        ("2.6.18", 255, "2.6.18 arch/i386/Kconfig NR_CPUS"),
        ("2.6.32", 512, "2.6.32 arch/x86/Kconfig NR_CPUS, with X86_BIGSMP"),
        ("5.10", 64, "5.10 arch/x86/Kconfig NR_CPUS_RANGE_END, with X86_BIGSMP"),
        ("7.2", 8, "7.2 arch/x86/Kconfig NR_CPUS_RANGE_END"),
    )
    """The largest ``NR_CPUS`` that the build configuration offers."""
    fixaddr_top = Column[int](
        ("2.4", 0xFFFF_E000, "2.4.0 include/asm/fixmap.h FIXADDR_TOP"),
        ("2.6.18", 0xFFFF_F000, "2.6.18 include/asm-i386/fixmap.h __FIXADDR_TOP, FIX_HOLE"),
    )
    """``FIXADDR_TOP``: fixmap slot *i* is the page at ``fixaddr_top - i * PAGE_SIZE``."""
    fixmap_hole = Column[bool](
        ("2.4", False, "2.4.18-14 include/asm-i386/fixmap.h enum fixed_addresses"),
        ("2.6.18", True, "2.6.18 include/asm-i386/fixmap.h FIX_HOLE"),
    )
    """Slot 0 is kept as a hole."""
    reservetop_option = Column[Reservetop](
        (
            "2.4",
            Reservetop.UNKNOWN,
            "2.4.0 include/asm/fixmap.h FIXADDR_TOP; 2.6.18 include/asm-i386/fixmap.h __FIXADDR_TOP",
        ),
        ("2.6.24", Reservetop.EXACT_AND_VMALLOC, "2.6.24 arch/x86/mm/pgtable_32.c reserve_top_address"),
        ("2.6.32", Reservetop.EXACT, "2.6.32 arch/x86/mm/pgtable.c reserve_top_address"),
        ("5.10", Reservetop.ROUNDED, "5.10 arch/x86/mm/pgtable.c reserve_top_address"),
    )
    """What ``reservetop=N`` does."""
    fixmap_slots = Column[int](
        # Local APIC and 8 IO-APICs; then hole, vdso, 64 IO-APICs, 4 for ACPI, PCI configuration; two for consoles more;
        # ACPI's gave way to two for text_poke, which went away in their turn, as did the vdso's.
        ("2.4", 9, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.18", 72, "2.6.18 include/asm-i386/fixmap.h enum fixed_addresses"),
        ("2.6.24", 74, "2.6.24 include/asm-x86/fixmap_32.h enum fixed_addresses"),
        ("2.6.32", 72, "2.6.32 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
        ("5.10", 69, "5.10 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
    )
    """Permanent fixmap slots of an ordinary build (local APIC, IO-APICs, PCI), those of ``kmap_atomic`` not counted."""
    fixmap_boot_slots = Column[int](
        ("2.4", 0, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.18", 16, "2.6.18 include/asm-i386/fixmap.h NR_FIX_BTMAPS"),
        ("2.6.32", 256, "2.6.32 arch/x86/include/asm/fixmap.h NR_FIX_BTMAPS, FIX_BTMAPS_SLOTS"),
        ("5.10", 512, "5.10 arch/x86/include/asm/fixmap.h TOTAL_FIX_BTMAPS"),
    )
    """Slots for ``bt_ioremap`` or ``early_ioremap``; with the one of the WP test they end the fixmap."""
    fixmap_boot_start = Column[FixmapBootStart](
        ("2.4", FixmapBootStart.NEXT, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.32", FixmapBootStart.MULTIPLE, "2.6.32 arch/x86/include/asm/fixmap.h FIX_BTMAP_END"),
        ("5.10", FixmapBootStart.ONE_TABLE, "5.10 arch/x86/include/asm/fixmap.h FIX_BTMAP_END"),
    )
    """Where those slots begin."""
    image_at = Column[int](
        ("2.4", 1 << 20, "2.4.18-14 arch/i386/vmlinux.lds"),
        ("2.6.32", 16 << 20, "2.6.32 arch/x86/Kconfig PHYSICAL_START"),
    )
    """``LOAD_PHYSICAL_ADDR`` of an ordinary build."""
    cpu_entry_area = Column[bool](
        ("2.4", False, "2.4.16 include/asm-i386/pgtable.h VMALLOC_END"),
        ("5.10", True, "5.10 arch/x86/include/asm/pgtable_32_areas.h CPU_ENTRY_AREA_BASE"),
    )
    """Entry stacks, TSS and GDT of every CPU are mapped below the fixmap."""
    cpu_entry_area_size = Column[int](
        ("2.4", 0, "2.4.16 include/asm-i386/pgtable.h VMALLOC_END"),
        ("5.10", 43 << 12, "5.10 arch/x86/include/asm/cpu_entry_area.h struct cpu_entry_area"),
    )
    """``sizeof(struct cpu_entry_area)`` of an ordinary build, 0 without one."""
    ldt_remap = Column[bool](
        ("2.4", False, "2.4.16 include/asm-i386/pgtable.h VMALLOC_END"),
        ("5.10", True, "5.10 arch/x86/include/asm/pgtable_32_areas.h LDT_BASE_ADDR"),
    )
    """A directory entry below the CPU entry area is kept for the LDT."""
    pkmap_base = Column[int | None](
        ("2.4", 0xFE00_0000, "2.4.0 include/asm-i386/highmem.h PKMAP_BASE; Gorman 2004, 10.1"),
        ("2.6.18", None, "2.6.18 include/asm-i386/highmem.h PKMAP_BASE"),
    )
    """``PKMAP_BASE`` where it is a constant, ``None`` where it follows from what lies above."""
    pkmap_below = Column[PkmapBelow](
        ("2.4", PkmapBelow.FIXED, "2.4.0 include/asm-i386/highmem.h PKMAP_BASE"),
        ("2.6.18", PkmapBelow.FIXMAP, "2.6.18 include/asm-i386/highmem.h PKMAP_BASE"),
        ("5.10", PkmapBelow.LDT, "5.10 arch/x86/include/asm/pgtable_32_areas.h PKMAP_BASE"),
    )
    """What the pkmap area is placed under."""
    vmalloc_start_rounding = Column[int](
        ("2.4", 8 << 20, "2.4.16 include/asm-i386/pgtable.h VMALLOC_START"),
        ("2.6.32", 1, "2.6.32 arch/x86/include/asm/pgtable_32_types.h VMALLOC_START"),
    )
    """``VMALLOC_START`` is at least ``VMALLOC_OFFSET`` above ``high_memory``, rounded up to a multiple of this."""
    vmalloc_option = Column[VmallocOption](
        ("2.4", VmallocOption.UNKNOWN, "2.4.18-14 include/asm-i386/page.h __VMALLOC_RESERVE"),
        ("2.6.18", VmallocOption.EXACT, "2.6.18 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("2.6.32", VmallocOption.PLUS_OFFSET, "2.6.32 arch/x86/mm/pgtable_32.c parse_vmalloc"),
    )
    """What ``vmalloc=N`` reserves."""
    maxmem_below = Column[MaxmemBelow](
        ("2.4", MaxmemBelow.TOP, "2.4.18-14 include/asm-i386/page.h MAXMEM"),
        ("2.6.32", MaxmemBelow.VMALLOC_END, "2.6.32 arch/x86/include/asm/pgtable_32_types.h MAXMEM"),
    )
    """From where ``MAXMEM`` is counted down."""
    # -- kernel page tables -----------------------------------------------------------------------------------
    nx = Column[bool](
        ("2.4", False, "2.4.16 include/asm-i386/pgtable.h _PAGE bits"),
        ("2.6.18", True, "2.6.18 include/asm-i386/pgtable.h _PAGE_NX"),
    )
    """PAE kernels use bit 63."""
    pti = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("5.10", True, "5.10 security/Kconfig PAGE_TABLE_ISOLATION"),
    )
    """Page-table isolation can be configured (with PAE)."""
    noexec_option = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c parse_mem_cmdline"),
        ("2.6.18", True, "2.6.18 arch/i386/mm/init.c noexec_setup"),
        ("6.1", False, "6.1 arch/x86/mm/Makefile, without setup_nx.o"),
    )
    """``noexec=off`` keeps a PAE kernel from using bit 63."""
    pti_option = Column[PtiOption](
        ("2.4", PtiOption.UNKNOWN, "2.4.18-14 arch/i386/kernel/setup.c parse_mem_cmdline"),
        ("5.10", PtiOption.BEFORE_NOPTI, "5.10 arch/x86/mm/pti.c pti_check_boottime_disable"),
        ("6.12", PtiOption.BELOW_MITIGATIONS, "6.12 arch/x86/mm/pti.c pti_check_boottime_disable"),
        ("7.2", PtiOption.ABOVE_MITIGATIONS, "7.2 arch/x86/mm/pti.c pti_check_boottime_disable"),
    )
    """What decides about page-table isolation."""
    zero_page_pdptes = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("2.6.32", False, "2.6.32 arch/x86/mm/init_32.c native_pagetable_setup_start"),
    )
    """With PAE, unused entries of the top table are present and point to the zero page."""
    first_directory_entry_split = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("2.6.32", True, "2.6.32 arch/x86/mm/init.c init_memory_mapping"),
    )
    """What the first directory entry of the direct map covers is always mapped by 4 KiB pages."""
    direct_map_overruns = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("2.6.32", False, "2.6.32 arch/x86/mm/init.c init_memory_mapping"),
    )
    """The last large page of the direct map may reach beyond ``max_low_pfn``."""
    direct_map_holes = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        ("5.10", False, "5.10 arch/x86/mm/init.c init_range_memory_mapping"),
    )
    """Lowmem that is not RAM is in the direct map too."""
    read_only_dirty = Column[bool](
        ("2.4", True, "2.4.16 include/asm-i386/pgtable.h __PAGE_KERNEL_RO"),
        ("6.12", False, "6.12 arch/x86/include/asm/pgtable_types.h __PAGE_KERNEL_RO"),
    )
    """Read-only kernel pages have the dirty bit set."""
    image_protection = Column[ImageProtection](
        ("2.4", ImageProtection.NONE, "2.4.18-14 arch/i386/mm/init.c pagetable_init"),
        (
            "2.6.18",
            ImageProtection.LARGE_PAGES,
            "2.6.18 arch/i386/mm/init.c is_kernel_text; mark_rodata_ro if configured",
        ),
        ("5.10", ImageProtection.SECTIONS, "5.10 arch/x86/mm/init_32.c mark_rodata_ro, mark_nxdata_nx"),
    )
    """What the image's own pages get."""
    rodata_option = Column[RodataOption](
        ("2.4", RodataOption.UNKNOWN, "2.4.18-14 arch/i386/kernel/setup.c parse_mem_cmdline"),
        ("5.10", RodataOption.LETTERS, "5.10 init/main.c set_debug_rodata, lib/kstrtox.c kstrtobool"),
        ("6.1", RodataOption.WORDS, "6.1 init/main.c set_debug_rodata"),
    )
    """How ``rodata=`` is read."""
    vdso_in_fixmap = Column[bool](
        ("2.4", False, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("2.6.18", True, "2.6.18 include/asm-i386/fixmap.h FIX_VDSO"),
        ("5.10", False, "5.10 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
    )
    """A fixmap slot may hold the page that user space calls the kernel through."""
    huge_vmalloc = Column[bool](
        ("2.4", False, "2.4.18-14 mm/vmalloc.c"),
        ("5.10", True, "5.10 arch/x86/Kconfig HAVE_ARCH_HUGE_VMAP"),
    )
    """With PAE the vmalloc area may have large pages."""
    software_bits = Column[tuple[tuple[int, str], ...]](
        ("2.4", (), "2.4.16 include/asm-i386/pgtable.h"),
        (
            "2.6.32",
            ((9, "special"), (10, "iomap"), (11, "hidden")),
            "2.6.32 arch/x86/include/asm/pgtable_types.h _PAGE_BIT_UNUSED1, _PAGE_BIT_IOMAP, _PAGE_BIT_HIDDEN",
        ),
        (
            "5.10",
            ((9, "special"),),
            "5.10 arch/x86/include/asm/pgtable_types.h; arch/x86/Kconfig HAVE_ARCH_SOFT_DIRTY",
        ),
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
    )
    """What the kernel does with the bits 9 to 11 of an entry."""
    protnone_bit = Column[int](
        ("2.4", 7, "2.4.16 include/asm-i386/pgtable.h _PAGE_PROTNONE"),
        ("2.6.32", 8, "2.6.32 arch/x86/include/asm/pgtable_types.h _PAGE_BIT_PROTNONE"),
    )
    """The bit that an entry of ``PROT_NONE`` has set in place of the present bit."""
    large_pages_collapse = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/mm/pageattr.c"),
        ("7.2", True, "7.2 arch/x86/mm/pat/set_memory.c collapse_pmd_page"),
    )
    """Split large pages of the direct map may be put together again."""
    shared_kernel_pmd = Column[bool](
        ("2.4", True, "2.4.18-14 include/asm-i386/pgalloc.h get_pgd_slow"),
        ("7.2", False, "7.2 arch/x86/mm/pgtable.c pgd_alloc"),
    )
    """With PAE and without page-table isolation, all processes share one page directory of the kernel's GiB."""
    vmalloc_synced = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/mm/fault.c vmalloc_fault"),
        ("5.10", True, "5.10 arch/x86/mm/fault.c arch_sync_kernel_mappings"),
    )
    """New page tables of the vmalloc area go to all processes at once, not by page fault only."""
    highpte = Column[bool](
        ("2.4", False, "2.4.18-14 include/asm-i386/pgalloc.h pte_alloc_one"),
        ("2.6.18", True, "2.6.18 arch/i386/mm/pgtable.c pte_alloc_one"),
        ("7.2", False, "7.2 arch/x86/Kconfig"),
    )
    """Page tables of user space may lie in highmem (``CONFIG_HIGHPTE``)."""

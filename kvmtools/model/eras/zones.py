"""What differs between the eras in RAM, zones and the buddy allocator.

A part of the table of eras; :mod:`kvmtools.model.eras.columns` says how it is written.
"""

from __future__ import annotations

from kvmtools.model.eras.columns import Column
from kvmtools.model.eras.dialects import BuddyMark


class ZoneColumns:
    """What differs between the eras in RAM, zones and the buddy allocator."""

    # -- RAM ------------------------------------------------------------------------------------------------
    mem_edits = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("2.6.18", False, "2.6.18 arch/i386/kernel/setup.c parse_cmdline_early"),
    )
    """``mem=exactmap`` forgets the firmware's map and ``mem=SIZE@START`` adds to it, as ``memmap=`` does since 2.6."""
    memmap_forms = Column[str](
        ("2.4", "", "2.4.18-14 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("2.6.18", "@#$", "2.6.18 arch/i386/kernel/setup.c parse_cmdline_early"),
        ("5.10", "@#$!%", "5.10 arch/x86/kernel/e820.c parse_memmap_one"),
    )
    """What may stand between the size and the start in ``memmap=``; none: the option is unknown."""
    memmap_list = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c; 2.6.32 arch/x86/kernel/e820.c parse_memmap_opt"),
        ("5.10", True, "5.10 arch/x86/kernel/e820.c parse_memmap_opt"),
    )
    """``memmap=`` takes several, with commas between them; else it reads the first."""
    ram_types = Column[tuple[int, ...]](
        (
            "2.4",
            (1,),
            "2.4.18-14 arch/i386/kernel/setup.c find_max_pfn; 2.6.32 arch/x86/kernel/e820.c e820_find_active_region",
        ),
        ("5.10", (1, 128), "5.10 arch/x86/kernel/e820.c e820__memblock_setup"),
        ("7.2", (1,), "7.2 arch/x86/kernel/e820.c e820__memblock_setup"),
    )
    """E820 types that are RAM."""
    ram_end_types = Column[tuple[int, ...]](
        ("2.4", (1,), "2.4.18-14 arch/i386/kernel/setup.c find_max_pfn"),
        ("6.12", (1, 3), "6.12 arch/x86/kernel/e820.c e820__end_ram_pfn"),
    )
    """E820 types whose last page decides ``max_pfn``."""
    ram_end_limited = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c find_max_pfn"),
        ("2.6.32", True, "2.6.32 arch/x86/kernel/e820.c e820_end_pfn, MAX_ARCH_PFN"),
    )
    """RAM that begins where no page table entry reaches is overlooked when ``max_pfn`` is looked for."""
    bios_area_trimmed = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/kernel/setup.c copy_e820_map; 2.6.24 arch/x86/kernel/e820_32.c"),
        ("2.6.32", False, "2.6.32 arch/x86/kernel/e820.c __append_e820_map"),
    )
    """Of the firmware's map, the BIOS area is never taken for RAM; what the command line adds is believed."""
    ram_trimmed = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c setup_memory_region"),
        ("5.10", True, "5.10 arch/x86/kernel/setup.c trim_bios_range, e820_add_kernel_range"),
    )
    """Page 0 and the BIOS area are never RAM, the kernel's image always is."""
    ram_must_fit = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/mm/init.c page_is_ram"),
        ("5.10", True, "5.10 arch/x86/kernel/e820.c e820__memblock_setup"),
    )
    """RAM that ends at or beyond what ``phys_addr_t`` can hold is skipped whole, wherever it begins."""
    ram_ends_at_max_pfn = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/kernel/setup.c"),
        ("2.6.32", True, "2.6.32 arch/x86/mm/init_32.c initmem_init"),
        ("5.10", False, "5.10 arch/x86/kernel/e820.c e820__memblock_setup"),
        ("7.2", True, "7.2 arch/x86/kernel/e820.c e820__memblock_setup"),
    )
    """RAM that ``max_pfn`` leaves out is forgotten, not only unused."""
    # -- zones ----------------------------------------------------------------------------------------------
    first_mib_reserved = Column[bool](
        (
            "2.4",
            False,
            "2.4.18-14 arch/i386/kernel/setup.c; 5.10 arch/x86/kernel/setup.c trim_low_memory_range",
        ),
        ("6.1", True, "6.1 arch/x86/realmode/init.c reserve_real_mode"),
    )
    """All RAM of the first MiB is kept from the page allocator, not only what BIOS and trampoline use."""
    highmem64g = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/config.in CONFIG_HIGHMEM64G"),
        ("7.2", False, "7.2 arch/x86/Kconfig HIGHMEM4G"),
    )
    """A PAE kernel uses RAM above 4 GiB."""
    pae_needs_highmem = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/config.in CONFIG_X86_PAE"),
        ("2.6.24", False, "2.6.24 arch/x86/Kconfig X86_PAE"),
    )
    """``CONFIG_X86_PAE`` comes with ``CONFIG_HIGHMEM`` only."""
    zones_cover_holes = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c paging_init"),
        ("2.6.32", False, "2.6.32 arch/x86/mm/init_32.c initmem_init"),
    )
    """The node is told of one range of RAM from pfn 0, so holes count as present."""
    numa = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("2.6.18", True, "2.6.18 arch/i386/Kconfig NUMA"),
        ("7.2", False, "7.2 arch/x86/Kconfig NUMA"),
    )
    """``CONFIG_NUMA`` can be had on i386."""
    discontigmem = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("2.6.18", True, "2.6.18 arch/i386/Kconfig ARCH_DISCONTIGMEM_ENABLE"),
        ("5.10", False, "5.10 arch/x86/Kconfig ARCH_SPARSEMEM_ENABLE"),
    )
    """With it each node has a ``mem_map`` of its own, ``CONFIG_DISCONTIGMEM``."""
    zone_names = Column[tuple[str, ...]](
        ("2.4", ("DMA", "NORMAL", "HIGHMEM"), "2.4.16 include/linux/mmzone.h ZONE_DMA"),
        ("2.6.18", ("DMA", "DMA32", "NORMAL", "HIGHMEM"), "2.6.18 include/linux/mmzone.h ZONE_DMA"),
        ("2.6.24", ("DMA", "NORMAL", "HIGHMEM", "MOVABLE"), "2.6.24 include/linux/mmzone.h enum zone_type"),
    )
    """``enum zone_type`` of an ordinary build with HIGHMEM, in order."""
    # -- the buddy allocator --------------------------------------------------------------------------------
    movable_percent = Column[bool](
        ("2.4", False, "2.4.18-14 mm/page_alloc.c; 2.6.32 mm/page_alloc.c cmdline_parse_core"),
        ("5.10", True, "5.10 mm/page_alloc.c cmdline_parse_core"),
    )
    """``kernelcore=`` and ``movablecore=`` may be given in percent."""
    max_order = Column[int](
        ("2.4", 10, "2.4.16 include/linux/mmzone.h MAX_ORDER"),
        ("2.6.18", 11, "2.6.18 include/linux/mmzone.h MAX_ORDER"),
    )
    """Number of buddy orders."""
    buddy_mark = Column[BuddyMark](
        ("2.4", BuddyMark.BITMAP, "2.4.18-14 mm/page_alloc.c __free_pages_ok"),
        ("2.6.18", BuddyMark.PG_BUDDY, "2.6.18 mm/page_alloc.c set_page_order"),
        ("5.10", BuddyMark.PAGE_TYPE_BIT, "5.10 include/linux/page-flags.h PG_buddy"),
        ("6.12", BuddyMark.PAGE_TYPE_BYTE, "6.12 include/linux/page-flags.h PGTY_buddy"),
    )
    """How the head of a free block is marked."""
    highmem_freed_singly = Column[bool](
        ("2.4", True, "2.4.18-14 arch/i386/mm/init.c mem_init"),
        ("7.2", False, "7.2 mm/memblock.c __free_memory_core"),
    )
    """At boot highmem is freed page by page, like any page that was in use; lowmem goes in large blocks."""
    buddy_checks_pfn = Column[bool](
        ("2.4", False, "2.4.18-14 mm/page_alloc.c __free_pages_ok"),
        ("2.6.18", True, "2.6.18 mm/page_alloc.c page_is_buddy"),
        ("6.1", False, "6.1 mm/page_alloc.c __free_one_page"),
    )
    """``CONFIG_HOLES_IN_ZONE`` exists: the allocator asks ``pfn_valid`` before it looks at a buddy."""
    buddy_checks = Column[tuple[str, ...]](
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
    )
    """The checks that every build makes:

    ============== ====================================================================
    ``held``       ``put_page_testzero``: somebody holds the page that is put
    ``idle``       ``free_pages_check``: no reference, mapping or wrong flag is left
    ``aligned``    the block begins at a multiple of its size
    ``in zone``    ``bad_range``: the page lies in the zone that it names
    ``buddy idle`` nobody holds a page that is marked free
    ``new``        ``check_new_page``: what is handed out has no reference, mapping or wrong flag
    ============== ====================================================================
    """
    debug_vm = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/config.in"),
        ("2.6.18", True, "2.6.18 lib/Kconfig.debug DEBUG_VM"),
    )
    """``CONFIG_DEBUG_VM`` exists, and makes all of them."""
    checked_at_free = Column[tuple[str, ...]](
        ("2.4", ("locked", "lru", "active"), "2.4.16 mm/page_alloc.c __free_pages_ok"),
        (
            "2.6.18",
            (
                "locked",
                "active",
                "lru",
                "private",
                "writeback",
                "swapcache",
                "reclaim",
                "slab",
                "reserved",
                "buddy",
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
                "locked",
                "active",
                "lru",
                "private",
                "private_2",
                "writeback",
                "swapcache",
                "slab",
                "reserved",
                "buddy",
                "unevictable",
                "mlocked",
            ),
            "2.6.32 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_FREE",
        ),
        (
            "5.10",
            (
                "locked",
                "active",
                "lru",
                "private",
                "private_2",
                "writeback",
                "slab",
                "reserved",
                "unevictable",
                "mlocked",
            ),
            "5.10 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_FREE",
        ),
        (
            "6.12",
            (
                "locked",
                "active",
                "lru",
                "private",
                "private_2",
                "writeback",
                "reserved",
                "unevictable",
                "mlocked",
            ),
            "6.12 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_FREE",
        ),
    )
    """Flags that no page may have when it is freed (``PAGE_FLAGS_CHECK_AT_FREE``)."""
    checked_at_prep = Column[tuple[str, ...] | None](
        ("2.4", ("lru", "active"), "2.4.16 mm/page_alloc.c rmqueue"),
        (
            "2.6.18",
            (
                "locked",
                "active",
                "lru",
                "private",
                "writeback",
                "swapcache",
                "reclaim",
                "slab",
                "reserved",
                "buddy",
                "dirty",
            ),
            "2.6.18 mm/page_alloc.c prep_new_page",
        ),
        (
            "2.6.24",
            (
                "locked",
                "active",
                "lru",
                "private",
                "writeback",
                "swapcache",
                "slab",
                "reserved",
                "buddy",
                "dirty",
            ),
            "2.6.24 mm/page_alloc.c prep_new_page",
        ),
        ("2.6.32", None, "2.6.32 include/linux/page-flags.h PAGE_FLAGS_CHECK_AT_PREP"),
    )
    """Flags that no page may have when it is handed out (``PAGE_FLAGS_CHECK_AT_PREP``); ``None``: any."""
    cleared_at_free = Column[tuple[str, ...] | None](
        ("2.4", ("referenced", "dirty"), "2.4.16 mm/page_alloc.c __free_pages_ok"),
        ("2.6.18", ("dirty",), "2.6.18 mm/page_alloc.c free_pages_check"),
        ("2.6.32", None, "2.6.32 mm/page_alloc.c free_pages_check"),
    )
    """Flags that a page loses when it is freed; ``None``: all that it had."""
    checks_counts = Column[bool](
        ("2.4", False, "2.4.16 mm/page_alloc.c __free_pages_ok, rmqueue"),
        ("2.6.18", True, "2.6.18 mm/page_alloc.c free_pages_check, prep_new_page"),
    )
    """These checks look at references and mappings as well as at flags."""
    checks_head_only = Column[tuple[str, ...]](
        ("2.4", ("idle", "new"), "2.4.16 mm/page_alloc.c __free_pages_ok, rmqueue"),
        ("2.6.18", ("new",), "2.6.18 mm/page_alloc.c prep_new_page"),
        ("2.6.32", (), "2.6.32 mm/page_alloc.c prep_new_page, check_new_page"),
    )
    """Those of the checks that look at the first page of a block alone; ``idle`` clears its flags alone then."""
    pcp_huge_pages = Column[bool](
        ("2.4", False, "2.4.16 mm/page_alloc.c __free_pages_ok; 6.1 mm/page_alloc.c pindex_to_order"),
        ("6.12", True, "6.12 mm/page_alloc.c pindex_to_order"),
    )
    """The large blocks that a CPU keeps are huge pages; before, if it kept any, they were pageblocks."""
    list_poison = Column[tuple[int, int] | None](
        ("2.4", None, "2.4.18-14 include/linux/list.h list_del"),
        ("2.6.18", (0x0010_0100, 0x0020_0200), "2.6.18 include/linux/poison.h LIST_POISON1, LIST_POISON2"),
        ("5.10", (0x100, 0x122), "5.10 include/linux/poison.h LIST_POISON1, LIST_POISON2"),
    )
    """What ``list_del`` leaves in ``next`` and ``prev``; ``None`` if it leaves them alone."""
    split_keeps_lower_half = Column[bool](
        ("2.4", True, "2.4.18-14 mm/page_alloc.c expand"),
        ("2.6.18", False, "2.6.18 mm/page_alloc.c expand"),
    )
    """A block that is split gives its upper half to the caller and keeps the lower one, not the reverse."""
    boot_orders = Column[tuple[int, ...] | None](
        ("2.4", (0,), "2.4.18-14 mm/bootmem.c free_all_bootmem_core"),
        ("2.6.18", (5, 0), "2.6.18 mm/bootmem.c free_all_bootmem_core"),
        ("5.10", None, "5.10 mm/memblock.c __free_pages_memory"),
    )
    """Orders in which the boot allocator frees lowmem, largest first; ``None``: any."""
    buddy_merge_likely = Column[bool](
        ("2.4", False, "2.4.18-14 mm/page_alloc.c __free_pages_ok; 2.6.32 mm/page_alloc.c __free_one_page"),
        ("5.10", True, "5.10 mm/page_alloc.c buddy_merge_likely"),
    )
    """A block whose parent could merge as soon as its buddy is free goes to the end of the list."""
    frees_tails = Column[bool](
        ("2.4", False, "2.4.18-14 mm/page_alloc.c __free_pages; 2.6.32 mm/page_alloc.c __free_pages"),
        ("5.10", True, "5.10 mm/page_alloc.c __free_pages"),
    )
    """``__free_pages`` of a block that someone else still holds by its first page frees the other pages, unless it is
    a compound page, of which the model has none."""
    keeps_reserved = Column[bool](
        ("2.4", True, "2.4.16 mm/page_alloc.c __free_pages"),
        ("2.6.18", False, "2.6.18 mm/page_alloc.c __free_pages"),
    )
    """``__free_pages`` of a reserved page does nothing."""

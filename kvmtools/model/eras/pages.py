"""What differs between the eras in pkmap, ``mem_map`` and ``struct page``.

A part of the table of eras; :mod:`kvmtools.model.eras.columns` says how it is written.
"""

from __future__ import annotations

from kvmtools.model.eras.columns import Column, PairColumn
from kvmtools.model.eras.dialects import HoleZone, KmapSlotChoice, PageAddress


class PageColumns:
    """What differs between the eras in pkmap, ``mem_map`` and ``struct page``."""

    # -- pkmap and the slots of the fixmap ------------------------------------------------------------------
    page_address = Column[PageAddress](
        ("2.4", PageAddress.MEMBER, "2.4.16 include/asm-i386/pgtable.h page_address"),
        ("2.6.18", PageAddress.POOL, "2.6.18 mm/highmem.c page_address_pool"),
        ("5.10", PageAddress.INDEXED, "5.10 mm/highmem.c set_page_address"),
    )
    """Where a highmem page's address is kept."""
    hash_multiplier = Column[int | None](
        ("2.4", None, "2.4.16 include/asm-i386/pgtable.h page_address"),
        ("2.6.18", 0x9E37_0001, "2.6.18 include/linux/hash.h GOLDEN_RATIO_PRIME"),
        ("5.10", 0x61C8_8647, "5.10 include/linux/hash.h GOLDEN_RATIO_32"),
    )
    """The factor of ``hash_ptr``, ``None`` without a hash."""
    flush_tlb_always = Column[bool](
        ("2.4", True, "2.4.18-14 mm/highmem.c flush_all_zero_pkmaps"),
        ("2.6.32", False, "2.6.32 mm/highmem.c flush_all_zero_pkmaps"),
    )
    """``flush_all_zero_pkmaps`` flushes the TLB even if it cleared nothing."""
    kmap_flush_unused = Column[bool](
        ("2.4", False, "2.4.18-14 mm/highmem.c"),
        ("2.6.24", True, "2.6.24 mm/highmem.c kmap_flush_unused"),
    )
    """Anyone may ask for unused slots to be flushed."""
    interrupt_bugs = Column[tuple[str, ...]](
        ("2.4", ("kmap", "kunmap"), "2.4.0 include/asm-i386/highmem.h kmap, kunmap"),
        ("2.6.18", ("kunmap",), "2.6.18 arch/i386/mm/highmem.c kunmap; 2.6.32 arch/x86/mm/highmem_32.c"),
        ("5.10", (), "5.10 include/linux/highmem.h kmap, kunmap"),
    )
    """Calls that stop the kernel at once if an interrupt makes them; what else an interrupt calls may go well."""
    kmap_slots = Column[KmapSlotChoice](
        ("2.4", KmapSlotChoice.TYPED, "2.4.18-14 include/asm-i386/highmem.h kmap_atomic"),
        ("5.10", KmapSlotChoice.PER_CPU_STACK, "5.10 include/linux/highmem.h kmap_atomic_idx_push"),
        ("6.1", KmapSlotChoice.PER_TASK, "6.1 mm/highmem.c kmap_local_idx_push"),
    )
    """How a slot of ``kmap_atomic`` or ``kmap_local`` is chosen."""
    kmap_slots_per_cpu = Column[int](
        ("2.4", 7, "2.4.18-14 include/asm-i386/kmap_types.h KM_TYPE_NR"),
        ("2.6.18", 13, "2.6.18 include/asm-i386/kmap_types.h KM_TYPE_NR"),
        ("2.6.32", 19, "2.6.32 include/asm-generic/kmap_types.h KM_TYPE_NR"),
        ("5.10", 20, "5.10 include/asm-generic/kmap_types.h KM_TYPE_NR"),
        ("6.1", 16, "6.1 include/asm-generic/kmap_size.h KM_MAX_IDX"),
    )
    """``KM_TYPE_NR`` or ``KM_MAX_IDX`` without debugging."""
    kmap_slots_always = Column[bool](
        ("2.4", False, "2.4.0 include/asm/fixmap.h enum fixed_addresses"),
        ("5.10", True, "5.10 arch/x86/include/asm/fixmap.h enum fixed_addresses"),
    )
    """The fixmap has these slots in kernels without ``CONFIG_HIGHMEM`` too."""
    kmap_stale = Column[bool](
        ("2.4", True, "2.4.18-14 include/asm-i386/highmem.h kunmap_atomic"),
        ("2.6.24", False, "2.6.24 arch/x86/mm/highmem_32.c kunmap_atomic"),
    )
    """Unmapping such a slot leaves its PTE, without ``CONFIG_DEBUG_HIGHMEM``."""
    # -- mem_map --------------------------------------------------------------------------------------------
    page_struct_size = Column[int](
        ("2.4", 64, "2.4.16 include/linux/mm.h struct page"),
        ("2.6.18", 32, "2.6.18 include/linux/mm.h struct page"),
    )
    """``sizeof(struct page)`` of an ordinary build."""
    page_members = Column[tuple[tuple[str, int], ...]](
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
    )
    """Byte offsets of what the page allocator uses, each a 32-bit word: ``next`` is the link of the free lists, with
    ``prev`` behind it; ``mapcount`` is ``page_type`` as well, where that exists."""
    page_flags = Column[tuple[str, ...]](
        (
            "2.4",
            (
                "locked",
                "error",
                "referenced",
                "uptodate",
                "dirty",
                "unused",
                "lru",
                "active",
                "slab",
                "bit9",
                "skip",
                "highmem",
                "checked",
                "arch_1",
                "reserved",
                "launder",
            ),
            "2.4.16 include/linux/mm.h PG_locked",
        ),
        (
            "2.6.18",
            (
                "locked",
                "error",
                "referenced",
                "uptodate",
                "dirty",
                "lru",
                "active",
                "slab",
                "checked",
                "arch_1",
                "reserved",
                "private",
                "writeback",
                "nosave",
                "compound",
                "swapcache",
                "mappedtodisk",
                "reclaim",
                "nosave_free",
                "buddy",
            ),
            "2.6.18 include/linux/page-flags.h PG_locked",
        ),
        (
            "2.6.24",
            (
                "locked",
                "error",
                "referenced",
                "uptodate",
                "dirty",
                "lru",
                "active",
                "slab",
                "owner_priv_1",
                "arch_1",
                "reserved",
                "private",
                "writeback",
                "bit13",
                "compound",
                "swapcache",
                "mappedtodisk",
                "reclaim",
                "bit18",
                "buddy",
            ),
            "2.6.24 include/linux/page-flags.h PG_locked",
        ),
        (
            "2.6.32",
            (
                "locked",
                "error",
                "referenced",
                "uptodate",
                "dirty",
                "lru",
                "active",
                "slab",
                "owner_priv_1",
                "arch_1",
                "reserved",
                "private",
                "private_2",
                "writeback",
                "head",
                "tail",
                "swapcache",
                "mappedtodisk",
                "reclaim",
                "buddy",
                "swapbacked",
                "unevictable",
                "mlocked",
                "uncached",
            ),
            "2.6.32 include/linux/page-flags.h enum pageflags",
        ),
        (
            "5.10",
            (
                "locked",
                "referenced",
                "uptodate",
                "dirty",
                "lru",
                "active",
                "workingset",
                "waiters",
                "error",
                "slab",
                "owner_priv_1",
                "arch_1",
                "reserved",
                "private",
                "private_2",
                "writeback",
                "head",
                "mappedtodisk",
                "reclaim",
                "swapbacked",
                "unevictable",
                "mlocked",
                "uncached",
            ),
            "5.10 include/linux/page-flags.h enum pageflags",
        ),
        (
            "6.12",
            (
                "locked",
                "writeback",
                "referenced",
                "uptodate",
                "dirty",
                "lru",
                "head",
                "waiters",
                "active",
                "workingset",
                "owner_priv_1",
                "owner_2",
                "arch_1",
                "reserved",
                "private",
                "private_2",
                "reclaim",
                "swapbacked",
                "unevictable",
                "mlocked",
                "arch_2",
            ),
            "6.12 include/linux/page-flags.h enum pageflags",
        ),
        (
            "7.2",
            (
                "locked",
                "writeback",
                "referenced",
                "uptodate",
                "dirty",
                "lru",
                "head",
                "waiters",
                "active",
                "workingset",
                "owner_priv_1",
                "owner_2",
                "arch_1",
                "reserved",
                "private",
                "private_2",
                "reclaim",
                "swapbacked",
                "unevictable",
                "dropbehind",
                "mlocked",
                "arch_2",
            ),
            "7.2 include/linux/page-flags.h enum pageflags",
        ),
    )
    """Flag names by bit number, of an ordinary build; ``bitN`` is a bit that has no name."""
    page_types = Column[tuple[tuple[str, int], ...]](
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
                ("buddy", 0xF0),
                ("offline", 0xF1),
                ("table", 0xF2),
                ("guard", 0xF3),
                ("hugetlb", 0xF4),
                ("slab", 0xF5),
                ("zsmalloc", 0xF6),
                ("unaccepted", 0xF7),
            ),
            "6.12 include/linux/page-flags.h enum pagetype",
        ),
        (
            "7.2",
            (
                ("buddy", 0xF0),
                ("offline", 0xF1),
                ("table", 0xF2),
                ("guard", 0xF3),
                ("hugetlb", 0xF4),
                ("slab", 0xF5),
                ("zsmalloc", 0xF6),
                ("unaccepted", 0xF7),
                ("large_kmalloc", 0xF8),
            ),
            "7.2 include/linux/page-flags.h enum pagetype",
        ),
    )
    """Names of ``page_type``, with the bit that is cleared (5.10, 6.1) or the top byte."""
    section_size_bits = PairColumn[tuple[int, int] | None](
        ("2.4", None, "2.4.16 include/linux/mmzone.h"),
        ("2.6.18", (26, 30), "2.6.18 include/asm-i386/sparsemem.h SECTION_SIZE_BITS"),
        ("2.6.32", (26, 29), "2.6.32 arch/x86/include/asm/sparsemem.h SECTION_SIZE_BITS"),
    )
    """``SECTION_SIZE_BITS``, ``None`` where there is no SPARSEMEM."""
    max_physmem_bits = PairColumn[tuple[int, int] | None](
        ("2.4", None, "2.4.16 include/linux/mmzone.h"),
        ("2.6.18", (32, 36), "2.6.18 include/asm-i386/sparsemem.h MAX_PHYSMEM_BITS"),
    )
    """``MAX_PHYSMEM_BITS``, ``None`` where there is no SPARSEMEM."""
    section_flag_bits = Column[int | None](
        ("2.4", None, "2.4.16 include/linux/mmzone.h"),
        ("2.6.18", 2, "2.6.18 include/linux/mmzone.h SECTION_MAP_LAST_BIT"),
        ("5.10", 4, "5.10 include/linux/mmzone.h SECTION_MAP_LAST_BIT"),
    )
    """Low bits of ``section_mem_map`` that are flags."""
    mem_map_rounded = Column[bool](
        ("2.4", False, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("2.6.18", True, "2.6.18 mm/page_alloc.c alloc_node_mem_map"),
    )
    """A FLATMEM ``mem_map`` begins and ends on a boundary of the largest buddy block."""
    mem_map_spans_ram = Column[bool](
        ("2.4", False, "2.4.18-14 mm/page_alloc.c; 6.1 mm/page_alloc.c calculate_node_totalpages"),
        ("6.12", True, "6.12 mm/mm_init.c calculate_node_totalpages"),
    )
    """A FLATMEM ``mem_map`` ends where the RAM of the node does, be it beyond the last zone."""
    max_mapnr_aligned = Column[bool](
        ("2.4", False, "2.4.18-14 arch/i386/mm/init.c mem_init"),
        ("7.2", True, "7.2 mm/mm_init.c alloc_node_mem_map"),
    )
    """``max_mapnr`` is rounded up likewise, so ``pfn_valid`` is true beyond the last page of RAM."""
    tail_initialised = Column[bool](
        ("2.4", False, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("7.2", True, "7.2 mm/mm_init.c memmap_init"),
    )
    """The entries of a FLATMEM ``mem_map`` beyond the last page of RAM are initialised."""
    zone_flag_bits = Column[int | None](
        ("2.4", 8, "2.4.18-14 include/linux/mm.h ZONE_SHIFT"),
        ("2.6.18", None, "2.6.18 include/linux/mm.h ZONES_WIDTH"),
    )
    """Top bits of ``page->flags`` that name the zone; ``None``: as many as the number of zones needs."""
    hole_refcount = Column[int](
        ("2.4", 0, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("2.6.18", 1, "2.6.18 mm/page_alloc.c memmap_init_zone"),
    )
    """``count`` or ``_refcount`` of a page that was never free; one that is not RAM keeps it."""
    hole_mapcount = Column[int | None](
        ("2.4", None, "2.4.18-14 include/linux/mm.h struct page"),
        ("2.6.18", -1, "2.6.18 mm/page_alloc.c reset_page_mapcount"),
    )
    """``_mapcount`` of such a page, ``None`` where pages have none."""
    hole_zone = Column[HoleZone](
        ("2.4", HoleZone.SPANNING, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("5.10", HoleZone.FOLLOWING, "5.10 mm/page_alloc.c memmap_init, init_unavailable_range"),
    )
    """The zone that a page belongs to that is not RAM."""
    flat_holes_initialised = Column[bool](
        ("2.4", True, "2.4.18-14 mm/page_alloc.c free_area_init_core"),
        ("5.10", False, "5.10 mm/page_alloc.c init_unavailable_range; mm/Kconfig"),
        ("6.1", True, "6.1 mm/page_alloc.c init_unavailable_range"),
    )
    """FLATMEM gives such a page a zone and counts at all; else its ``struct page`` is zero, until something reserves it
    at boot.
    """

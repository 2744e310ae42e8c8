"""The eras of the i386 kernel: eight rows of constants and switches, chosen by name or by what a kernel shows.

``named("2.4").pkmap_base`` is 0xFE000000.  The values and their sources are in :mod:`kvmtools.model.eras.table`; this
module says what each switch means.  A kernel between two eras is taken for the newest one all of whose marks it
shows: 5.4 has no ``task_struct.kmap_ctrl`` yet and counts as 5.10, 5.15 and 6.6 have it and count as 6.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kvmtools.errors import UsageError
from kvmtools.model.eras.table import NAMES, TABLE, Cell

_VERSION = re.compile(r"[1-9][0-9]{0,2}(\.(0|[1-9][0-9]{0,2})){1,3}")


@dataclass(frozen=True, slots=True)
class Era:
    """One row of the table.  Addresses and sizes are in bytes; a pair is ``(non-PAE, PAE)``, indexed by ``pae``."""

    name: str
    marks: tuple[str, ...]
    """Members, symbols and enumerators that no older era has and every newer one has too."""

    page_offsets: tuple[tuple[int, ...], tuple[int, ...]]
    """The values of ``PAGE_OFFSET`` that the build configuration offers."""
    most_cpus: int
    """The largest ``NR_CPUS`` that the build configuration offers."""
    fixaddr_top: int
    """``FIXADDR_TOP``: fixmap slot *i* is the page at ``fixaddr_top - i * PAGE_SIZE``."""
    fixmap_hole: bool
    """Slot 0 is kept as a hole."""
    reservetop_option: str
    """``reservetop=N`` is unknown (``"none"``), lowers ``FIXADDR_TOP`` by N (``"exact"``), takes N from lowmem too
    (``"exact and vmalloc"``), or lowers it to the next boundary of the page directory (``"rounded"``)."""
    fixmap_slots: int
    """Permanent fixmap slots of an ordinary build (local APIC, IO-APICs, PCI), those of ``kmap_atomic`` not counted."""
    fixmap_boot_slots: int
    """Slots for ``bt_ioremap`` or ``early_ioremap``; with the one of the WP test they end the fixmap."""
    fixmap_boot_start: str
    """Those slots begin with the ``"next"`` one, at the next ``"multiple"`` of their number, or there only if they
    would not be in ``"one table"`` otherwise."""
    image_at: int
    """``LOAD_PHYSICAL_ADDR`` of an ordinary build."""
    cpu_entry_area: bool
    """Entry stacks, TSS and GDT of every CPU are mapped below the fixmap."""
    cpu_entry_area_size: int
    """``sizeof(struct cpu_entry_area)`` of an ordinary build, 0 without one."""
    ldt_remap: bool
    """A directory entry below the CPU entry area is kept for the LDT."""
    pkmap_base: int | None
    """``PKMAP_BASE`` where it is a constant, ``None`` where it follows from what lies above."""
    pkmap_below: str
    """What the pkmap area is placed under: ``"fixed"`` address, ``"fixmap"``, or ``"ldt"``."""
    vmalloc_start_rounding: int
    """``VMALLOC_START`` is at least ``VMALLOC_OFFSET`` above ``high_memory``, rounded up to a multiple of this."""
    vmalloc_option: str
    """``vmalloc=N`` is unknown (``"none"``), reserves N (``"exact"``), or N and the hole (``"plus offset"``)."""
    maxmem_below: str
    """``MAXMEM`` is counted down from the ``"top"`` of the address space or from ``"vmalloc_end"``."""

    nx: bool
    """PAE kernels use bit 63."""
    pti: bool
    """Page-table isolation can be configured (with PAE)."""
    noexec_option: bool
    """``noexec=off`` keeps a PAE kernel from using bit 63."""
    pti_option: str
    """``pti=`` is unknown (``"none"``), or it decides ``"before nopti"`` and ``mitigations=off`` do, or the last of it
    and ``nopti`` counts: ``"below mitigations"`` =off or ``"above mitigations"`` =off."""
    zero_page_pdptes: bool
    """With PAE, unused entries of the top table are present and point to the zero page."""
    first_directory_entry_split: bool
    """What the first directory entry of the direct map covers is always mapped by 4 KiB pages."""
    direct_map_overruns: bool
    """The last large page of the direct map may reach beyond ``max_low_pfn``."""
    direct_map_holes: bool
    """Lowmem that is not RAM is in the direct map too."""
    read_only_dirty: bool
    """Read-only kernel pages have the dirty bit set."""
    image_protection: str
    """What the image's own pages get: ``"none"``, exec permission by ``"large pages"`` that hold any of it, or
    permissions by ``"sections"``."""
    rodata_option: str
    """``rodata=`` is unknown (``"none"``), read by its first ``"letters"``, or must be one of two ``"words"``."""
    vdso_in_fixmap: bool
    """A fixmap slot may hold the page that user space calls the kernel through."""
    huge_vmalloc: bool
    """With PAE the vmalloc area may have large pages."""
    software_bits: tuple[tuple[int, str], ...]
    """What the kernel does with the bits 9 to 11 of an entry."""
    protnone_bit: int
    """The bit that an entry of ``PROT_NONE`` has set in place of the present bit."""
    large_pages_collapse: bool
    """Split large pages of the direct map may be put together again."""
    shared_kernel_pmd: bool
    """With PAE and without page-table isolation, all processes share one page directory of the kernel's GiB."""
    vmalloc_synced: bool
    """New page tables of the vmalloc area go to all processes at once, not by page fault only."""
    highpte: bool
    """Page tables of user space may lie in highmem (``CONFIG_HIGHPTE``)."""

    page_address: str
    """Where a highmem page's address is kept: ``"member"`` of ``struct page``, or hash entries from a ``"pool"``, or
    hash entries ``"indexed"`` by slot."""
    hash_multiplier: int | None
    """The factor of ``hash_ptr``, ``None`` without a hash."""
    flush_tlb_always: bool
    """``flush_all_zero_pkmaps`` flushes the TLB even if it cleared nothing."""
    kmap_flush_unused: bool
    """Anyone may ask for unused slots to be flushed."""
    interrupt_bugs: tuple[str, ...]
    """Calls that stop the kernel at once if an interrupt makes them; what else an interrupt calls may go well."""
    kmap_slots: str
    """How a slot of ``kmap_atomic`` or ``kmap_local`` is chosen: ``"typed"`` by the caller, by depth on a ``"per-CPU
    stack"``, or by depth ``"per-task"``."""
    kmap_slots_per_cpu: int
    """``KM_TYPE_NR`` or ``KM_MAX_IDX`` without debugging."""
    kmap_slots_always: bool
    """The fixmap has these slots in kernels without ``CONFIG_HIGHMEM`` too."""
    kmap_stale: bool
    """Unmapping such a slot leaves its PTE, without ``CONFIG_DEBUG_HIGHMEM``."""

    page_struct_size: int
    """``sizeof(struct page)`` of an ordinary build."""
    page_members: tuple[tuple[str, int], ...]
    """Byte offsets of what the page allocator uses, each a 32-bit word: ``next`` is the link of the free lists, with
    ``prev`` behind it; ``mapcount`` is ``page_type`` as well, where that exists."""
    page_flags: tuple[str, ...]
    """Flag names by bit number, of an ordinary build; ``bitN`` is a bit that has no name."""
    page_types: tuple[tuple[str, int], ...]
    """Names of ``page_type``, with the bit that is cleared (5.10, 6.1) or the top byte."""
    section_size_bits: tuple[int, int] | None
    """``SECTION_SIZE_BITS``, ``None`` where there is no SPARSEMEM."""
    max_physmem_bits: tuple[int, int] | None
    """``MAX_PHYSMEM_BITS``, ``None`` where there is no SPARSEMEM."""
    section_flag_bits: int | None
    """Low bits of ``section_mem_map`` that are flags."""
    mem_map_rounded: bool
    """A FLATMEM ``mem_map`` begins and ends on a boundary of the largest buddy block."""
    max_mapnr_aligned: bool
    """``max_mapnr`` is rounded up likewise, so ``pfn_valid`` is true beyond the last page of RAM."""
    tail_initialised: bool
    """The entries of a FLATMEM ``mem_map`` beyond the last page of RAM are initialised."""

    zone_flag_bits: int | None
    """Top bits of ``page->flags`` that name the zone; ``None``: as many as the number of zones needs."""
    hole_refcount: int
    """``count`` or ``_refcount`` of a page that was never free; one that is not RAM keeps it."""
    hole_mapcount: int | None
    """``_mapcount`` of such a page, ``None`` where pages have none."""
    hole_zone: str
    """A page that is not RAM belongs to the ``"spanning"`` zone or to that of the ``"following"`` RAM."""
    flat_holes_initialised: bool
    """FLATMEM gives such a page a zone and counts at all; else its ``struct page`` is zero, until something reserves it
    at boot.
    """

    mem_edits: bool
    """``mem=exactmap`` forgets the firmware's map and ``mem=SIZE@START`` adds to it, as ``memmap=`` does since 2.6."""
    memmap_forms: str
    """What may stand between the size and the start in ``memmap=``; none: the option is unknown."""
    memmap_list: bool
    """``memmap=`` takes several, with commas between them; else it reads the first."""
    ram_types: tuple[int, ...]
    """E820 types that are RAM."""
    ram_end_types: tuple[int, ...]
    """E820 types whose last page decides ``max_pfn``."""
    ram_end_limited: bool
    """RAM that begins where no page table entry reaches is overlooked when ``max_pfn`` is looked for."""
    bios_area_trimmed: bool
    """Of the firmware's map, the BIOS area is never taken for RAM; what the command line adds is believed."""
    ram_trimmed: bool
    """Page 0 and the BIOS area are never RAM, the kernel's image always is."""
    ram_must_fit: bool
    """RAM that ends at or beyond what ``phys_addr_t`` can hold is skipped whole, wherever it begins."""
    ram_ends_at_max_pfn: bool
    """RAM that ``max_pfn`` leaves out is forgotten, not only unused."""

    first_mib_reserved: bool
    """All RAM of the first MiB is kept from the page allocator, not only what BIOS and trampoline use."""
    highmem64g: bool
    """A PAE kernel uses RAM above 4 GiB."""
    pae_needs_highmem: bool
    """``CONFIG_X86_PAE`` comes with ``CONFIG_HIGHMEM`` only."""
    zones_cover_holes: bool
    """The node is told of one range of RAM from pfn 0, so holes count as present."""
    numa: bool
    """``CONFIG_NUMA`` can be had on i386."""
    discontigmem: bool
    """With it each node has a ``mem_map`` of its own, ``CONFIG_DISCONTIGMEM``."""
    zone_names: tuple[str, ...]
    """``enum zone_type`` of an ordinary build with HIGHMEM, in order."""
    movable_percent: bool
    """``kernelcore=`` and ``movablecore=`` may be given in percent."""
    max_order: int
    """Number of buddy orders."""
    buddy_mark: str
    """How the head of a free block is marked: in a ``"bitmap"`` per order, by the flag ``"PG_buddy"``, or in
    ``page_type`` by a cleared bit (``"page_type bit"``) or its top byte (``"page_type byte"``)."""
    highmem_freed_singly: bool
    """At boot highmem is freed page by page, like any page that was in use; lowmem goes in large blocks."""
    buddy_checks_pfn: bool
    """``CONFIG_HOLES_IN_ZONE`` exists: the allocator asks ``pfn_valid`` before it looks at a buddy."""
    buddy_checks: tuple[str, ...]
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
    debug_vm: bool
    """``CONFIG_DEBUG_VM`` exists, and makes all of them."""
    checked_at_free: tuple[str, ...]
    """Flags that no page may have when it is freed (``PAGE_FLAGS_CHECK_AT_FREE``)."""
    checked_at_prep: tuple[str, ...] | None
    """Flags that no page may have when it is handed out (``PAGE_FLAGS_CHECK_AT_PREP``); ``None``: any."""
    cleared_at_free: tuple[str, ...] | None
    """Flags that a page loses when it is freed; ``None``: all that it had."""
    checks_counts: bool
    """These checks look at references and mappings as well as at flags."""
    checks_head_only: tuple[str, ...]
    """Those of the checks that look at the first page of a block alone; ``idle`` clears its flags alone then."""
    list_poison: tuple[int, int] | None
    """What ``list_del`` leaves in ``next`` and ``prev``; ``None`` if it leaves them alone."""
    split_keeps_lower_half: bool
    """A block that is split gives its upper half to the caller and keeps the lower one, not the reverse."""
    boot_orders: tuple[int, ...] | None
    """Orders in which the boot allocator frees lowmem, largest first; ``None``: any."""
    buddy_merge_likely: bool
    """A block whose parent could merge as soon as its buddy is free goes to the end of the list."""
    frees_tails: bool
    """``__free_pages`` of a block that someone else still holds by its first page frees the other pages, unless it is
    a compound page, of which the model has none."""
    keeps_reserved: bool
    """``__free_pages`` of a reserved page does nothing."""

    def fixmap(self, nr_cpus: int, *, pae: bool, highmem: bool = True) -> tuple[int, int]:
        """``(end_of_permanent_fixed_addresses, end_of_fixed_addresses)`` of an ordinary build, in slots."""
        permanent = self.fixmap_slots
        if highmem or self.kmap_slots_always:
            permanent += self.kmap_slots_per_cpu * nr_cpus
        boot = self.fixmap_boot_slots
        if not boot:
            return permanent, permanent
        table = 512 if pae else 1024
        fits = permanent // table == (permanent + boot - 1) // table
        next_one = self.fixmap_boot_start == "next" or (self.fixmap_boot_start == "one table" and fits)
        # The last slot, after those for booting, is the one of the WP test.
        return permanent, (permanent if next_one else (permanent // boot + 1) * boot) + boot + 1


def named(name: str) -> Era:
    """The era of that name.

    :raises UsageError: if there is none
    """
    if name not in _ERAS:
        raise UsageError(
            f"no era is named {name!r}{_neighbours(name)}", hint=f"the eras are {', '.join(NAMES)}"
        )
    return _ERAS[name]


def _neighbours(name: str) -> str:
    """What to add about a kernel that is between two eras or outside them; nothing if ``name`` is no version."""
    if not _VERSION.fullmatch(name):
        return ""
    older = sum(_age(era) < _age(name) for era in NAMES)
    if older in (0, len(NAMES)):
        return f"; the oldest is {NAMES[0]}, the newest {NAMES[-1]}"
    return f"; it lies between {NAMES[older - 1]} and {NAMES[older]}"


def _age(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def shown(marks: frozenset[str]) -> Era:
    """The newest era all of whose own marks are among ``marks``; the answer to what a live kernel shows.

    :raises UsageError: if not even the oldest era's are
    """
    for name in reversed(NAMES):
        if marks.issuperset(_ERAS[name].marks):
            return _ERAS[name]
    raise UsageError(
        "this kernel shows no era's marks",
        hint=f"an i386 kernel of any era has {', '.join(_ERAS[NAMES[0]].marks)}",
    )


def source(era: str, field: str) -> str:
    """Where the value of ``field`` in the era of that name is taken from: version, file, symbol.

    :raises UsageError: if there is no such era or field
    """
    named(era)
    if field not in TABLE:
        raise UsageError(f"no era has a field {field!r}", hint=f"the fields are {', '.join(TABLE)}")
    return _cell(era, field)[2]


def _cell(era: str, field: str) -> Cell:
    """The cell that holds in ``era``: the last one that does not begin after it."""
    until = NAMES.index(era)
    return [cell for cell in TABLE[field] if NAMES.index(cell[0]) <= until][-1]


def _row(era: str) -> Era:
    values: dict[str, Any] = {field: _cell(era, field)[1] for field in TABLE}
    return Era(name=era, **values)


_ERAS = {name: _row(name) for name in NAMES}

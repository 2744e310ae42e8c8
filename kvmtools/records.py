"""The words both sides speak.

The observer says what the kernel *has*, the model what it *ought to have*; both say it with these frozen records,
which name things and decide nothing.  Addresses and sizes are in bytes, ``*_pfn`` are page frame numbers of 4 KiB
pages, ranges are half-open.  ``None`` means *not known*, never *none*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

# Bits of the control registers, Intel SDM vol. 3A, 2.5, and of EFER, an MSR, 2.2.1.
CR0_WP, CR0_PG = 1 << 16, 1 << 31
CR4_PSE, CR4_PAE, CR4_PGE = 1 << 4, 1 << 5, 1 << 7
EFER_NXE = 1 << 11

PANIC_WORDS = b"Kernel panic - not syncing: "
"""What ``panic()`` prints before the reason, kernel/panic.c."""

#: What a kernel may show of its age: members of structures, and enumerators.  Which of them belong to which era is the
#: model's affair (``kvmtools.model.eras``); the observer says which are there.
MARKS = (
    "page.flags",
    "zone.spanned_pages",
    "task_struct.se",
    "vmap_area.va_start",
    "page.page_type",
    "cpu_entry_area.tss",
    "task_struct.kmap_ctrl",
    "PGTY_buddy",
    "zone.trylock_free_pages",
)


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Half-open ``[start, end)``, of addresses or of pfns, as the name of the holder says."""

    start: int
    end: int

    def __contains__(self, value: int) -> bool:
        return self.start <= value < self.end

    def __len__(self) -> int:
        return max(0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class E820Entry:
    """One line of the firmware's memory map; ``type`` 1 is usable RAM (arch/x86/include/asm/e820/types.h)."""

    start: int
    size: int
    type: int


@dataclass(frozen=True, slots=True)
class Image:
    """Where the kernel image lies in *this* guest: virtual addresses, KASLR slide included.

    ``sections`` are the boundary symbols of arch/x86/kernel/vmlinux.lds.S by their own names
    (``_text``, ``_etext``, ``__start_rodata``, ``__end_rodata``, ``__init_begin``, ``__init_end``, ``_end``, ...).
    """

    slide: int
    sections: dict[str, int]


@dataclass(frozen=True, slots=True)
class NodeSpan:
    """A memory node's place in the pfn space: where its first RAM begins and its last ends; ``[0, 0)`` has none."""

    number: int
    start_pfn: int
    end_pfn: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that the model is told: build configuration, CPU features, boot parameters and the RAM map.

    Every number that a kernel of another configuration would change is a field, read from the vmlinux's DWARF or
    from the guest's boot data; none of them is the answer to something that the model is asked.
    """

    pae: bool
    page_offset: int
    nr_cpus: int
    """``CONFIG_NR_CPUS``, not the CPUs that are online: it sizes the CPU entry area."""
    highmem: bool
    pti: bool
    """Page-table isolation is active (not only compiled)."""
    nx: bool
    pge: bool
    pse: bool
    physical_bits: int
    """MAXPHYADDR of the CPU as the guest sees it; physical addresses at or above ``1 << physical_bits`` are illegal."""
    page_struct_size: int
    """``sizeof(struct page)`` in bytes."""
    cpu_entry_area_size: int
    """``sizeof(struct cpu_entry_area)`` in bytes."""
    end_of_permanent_fixed_addresses: int
    end_of_fixed_addresses: int
    """The two limits of ``enum fixed_addresses``, in slots."""
    zone_names: tuple[str, ...]
    """``enum zone_type`` in order, without the prefix: ``("DMA", "NORMAL", "HIGHMEM", "MOVABLE")``."""
    sparsemem: bool
    max_order: int
    """Number of buddy orders, ``len(zone->free_area)``."""
    debug_pagealloc: bool
    """Free pages are unmapped (``_debug_pagealloc_enabled_early``: the option, or what was built in)."""
    command_line: str
    e820: tuple[E820Entry, ...]
    image: Image
    marks: frozenset[str]
    """Those of :data:`MARKS` that the kernel shows: ``kvmtools.model.eras.shown`` tells its era by them."""
    nodes: tuple[NodeSpan, ...] = ()
    """The memory nodes, ascending by number; none without CONFIG_NUMA: then all RAM is one node's."""
    max_numnodes: int = 1
    """``MAX_NUMNODES``, ``1 << CONFIG_NODES_SHIFT``: it sizes the node's number in ``page->flags``."""
    lru_generations: int = 0
    """``MAX_NR_GENS``, whose number has bits of its own in ``page->flags``; 0 without multi-generation LRU."""
    nr_pageflags: int = 0
    """``NR_PAGEFLAGS``: how many bits of ``page->flags`` are flags; with several nodes it decides whether the node's
    number fits."""
    kmap_fixed_addresses: Range | None = None
    """``FIX_KMAP_BEGIN`` to ``FIX_KMAP_END``, in slots of the fixmap: all CPUs' for ``kmap_local_page()``; ``None`` if
    there are none."""
    hugetlb: bool = False
    """``CONFIG_HUGETLB_PAGE``: then a pageblock is as large as a huge page."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Boundaries of the i386 kernel's address space (virtual) and of its memory (pfns), as a guest shows them.

    What it does not show is ``None``.  Source: arch/x86/include/asm/pgtable_32_areas.h and fixmap.h, mm/init_32.c
    (FACTS A.1, D).
    """

    page_offset: int | None = None
    high_memory: int | None = None
    vmalloc_start: int | None = None
    vmalloc_end: int | None = None
    pkmap_base: int | None = None
    last_pkmap: int | None = None
    """``LAST_PKMAP``: slots, 512 with PAE, 1024 without."""
    ldt_base: int | None = None
    ldt_end: int | None = None
    cpu_entry_area_base: int | None = None
    cpu_entry_area_end: int | None = None
    """End of the mapped part: the read-only IDT page and ``NR_CPUS`` entry areas."""
    fixaddr_tot_start: int | None = None
    """Start of boot-time *and* permanent fixmap slots."""
    fixaddr_start: int | None = None
    fixaddr_top: int | None = None
    max_low_pfn: int | None = None
    max_pfn: int | None = None
    highstart_pfn: int | None = None
    highend_pfn: int | None = None
    max_mapnr: int | None = None

    def items(self) -> Iterator[tuple[str, int | None]]:
        """``(field name, value)`` in order of declaration."""
        for field in fields(self):
            yield field.name, getattr(self, field.name)


@dataclass(frozen=True, slots=True)
class PredictedLayout:
    """The same boundaries as the model works them out.  An area is ``None`` if the kernel has none.

    :meth:`items` gives them the names that :class:`Layout` has for them.
    """

    page_offset: int
    high_memory: int
    vmalloc_start: int
    vmalloc_end: int
    fixaddr_tot_start: int
    fixaddr_start: int
    fixaddr_top: int
    max_low_pfn: int
    max_pfn: int
    max_mapnr: int | None
    """``None`` with SPARSEMEM."""
    pkmap: Range | None
    """``None`` without ``CONFIG_HIGHMEM``."""
    ldt: Range | None
    cpu_entry_area: Range | None
    """The mapped part: the read-only IDT page and ``NR_CPUS`` entry areas."""
    highmem: Range | None
    """Page frames, empty if there are none; ``None`` without ``CONFIG_HIGHMEM``."""

    def items(self) -> Iterator[tuple[str, int | None]]:
        """``(field of Layout, value)`` in the order of that."""
        edges: dict[str, int | None] = {"last_pkmap": None}
        for area, start, end in (
            (self.pkmap, "pkmap_base", ""),
            (self.ldt, "ldt_base", "ldt_end"),
            (self.cpu_entry_area, "cpu_entry_area_base", "cpu_entry_area_end"),
            (self.highmem, "highstart_pfn", "highend_pfn"),
        ):
            edges[start] = None if area is None else area.start
            edges[end] = None if area is None else area.end
        if self.pkmap is not None:
            edges["last_pkmap"] = len(self.pkmap) // PAGE_SIZE
        for field in fields(Layout):
            yield field.name, edges[field.name] if field.name in edges else getattr(self, field.name)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One present leaf: ``size`` bytes at ``virtual`` lead to ``physical``.

    ``entry`` is the raw leaf.  ``writable``, ``user`` and ``executable`` are *effective*: taken over all levels
    (SDM vol. 3A, 4.6).  ``table`` is the physical address of the table that holds the leaf, ``index`` its slot there,
    ``level`` counts from 1 at the table of 4 KiB pages upwards.
    """

    virtual: int
    physical: int
    size: int
    entry: int
    level: int
    table: int
    index: int
    writable: bool
    user: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class ZoneSpan:
    """A zone's place in the pfn space; ``name`` as in ``enum zone_type`` without the prefix, ``node`` its number."""

    name: str
    start_pfn: int
    end_pfn: int
    node: int = 0


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the kernel half of the page tables ought to hold in ``[start, end)`` of virtual space.

    ``presence`` is ``"all"`` (every page mapped), ``"none"`` (no page mapped) or ``"some"`` (the kernel decides at
    run time); ``physical`` is the address that ``start`` leads to where the region is linear.  ``writable`` and
    ``executable`` are the effective permissions, ``None`` where they vary.
    """

    name: str
    start: int
    end: int
    presence: str
    physical: int | None = None
    writable: bool | None = None
    executable: bool | None = None


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of one vCPU that decide how it sees memory."""

    cpu: int
    eip: int
    cr0: int
    cr3: int
    cr4: int
    efer: int | None
    """``None`` if the source does not record it: the notes of a QEMU core hold CR0 to CR4 only."""
    idt: int | None = None
    """Base of the IDT, virtual; ``None`` if the source does not record it: gdb does not ask for it."""

    @property
    def paged(self) -> bool:
        """Whether addresses go through page tables: CR0.PG."""
        return bool(self.cr0 & CR0_PG)

    def items(self) -> Iterator[tuple[str, int]]:
        """``(name, value)`` of the registers that are known."""
        for field in fields(Registers):
            value = getattr(self, field.name)
            if field.name != "cpu" and value is not None:
                yield field.name, value

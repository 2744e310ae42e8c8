"""What each kind of ``mem_map`` costs in kernel virtual space, in lowmem and in physical memory.

The quarrel of September 2006 (linux-mm, "virtual mmap basics") in figures.  Lameter: a virtual map holds no
``struct page`` for a hole, and may lie in highmem, so zone NORMAL gets its memory back.  Whitcroft: the window is
contiguous, holes included, and kernel virtual space is what zone NORMAL is made of, so the loss is the same;
SPARSEMEM is the kind that is sparse in virtual space too.  Both are right, each about another column of this budget.

FLATMEM and SPARSEMEM lie in the direct map: what they take of virtual space they take of lowmem, once.  A virtual
map lies in a window of its own between lowmem and the vmalloc area.  No i386 kernel has one; its figures are the
proposal's.

When a map cannot be had, the kernel panics (alloc_node_mem_map: it failed to allocate a node's memory map);
with SPARSEMEM the sections that got none fault as soon as their pages are initialised (sparse_init_nid, then
memmap_init_range).  The criterion here is the room that the kernel's image and the RAM map leave: necessary, not
sufficient, since a kernel with a few MiB of lowmem will not get to its init either.

Source: mm/page_alloc.c (alloc_node_mem_map), mm/sparse.c (sparse_init_nid, mem_section_usage_size),
include/linux/mmzone.h (usemap_size), 6.1; mm/sparse-vmemmap.c for the shape of a virtual map.  Everything is worked
out from ranges, nothing page by page.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model import eras, machine
from kvmtools.model.memmaps.metered_memory import image_pfns
from kvmtools.model.memmaps.virtual_map import window_size
from kvmtools.model.memory.memblock import Memblock
from kvmtools.model.memory.ram import ISA_END
from kvmtools.model.memory.zones import MAX_DMA_PFN
from kvmtools.model.pages import memmap
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import div_round_up, pfn_up
from kvmtools.model.space import layout
from kvmtools.records import PAGE_SIZE, Configuration, Range

MEM_SECTION_SIZE = 8
"""``sizeof(struct mem_section)`` without CONFIG_PAGE_EXTENSION: a map and a usage pointer."""
PAGEBLOCK_BITS = 4
"""``NR_PAGEBLOCK_BITS``, for every block of the largest buddy order."""
BIGGEST_MEMORY = {False: 1 << 32, True: 1 << 36}
"""What page-table entries can reach, by PAE."""
SMALLEST_MEMORY = 64 << 20


class Kind(NamedTuple):
    """One way to keep the ``struct page``s."""

    name: str
    memory_model: str
    """``"FLATMEM"``, ``"SPARSEMEM"`` or ``"virtual"``."""
    large: bool = False
    """Leaves of the window are 2 or 4 MiB, else 4 KiB."""
    lowmem_backed: bool = False
    """The memory behind the window comes from lowmem even if there is highmem."""


FLATMEM = Kind("FLATMEM", "FLATMEM")
SPARSEMEM = Kind("SPARSEMEM", "SPARSEMEM")
VIRTUAL = Kind("virtual 4K highmem", "virtual")
VIRTUAL_LARGE = Kind("virtual large highmem", "virtual", large=True)
VIRTUAL_LOWMEM = Kind("virtual 4K lowmem", "virtual", lowmem_backed=True)
VIRTUAL_LARGE_LOWMEM = Kind("virtual large lowmem", "virtual", large=True, lowmem_backed=True)
KINDS = (FLATMEM, SPARSEMEM, VIRTUAL, VIRTUAL_LARGE, VIRTUAL_LOWMEM, VIRTUAL_LARGE_LOWMEM)


class Budget(NamedTuple):
    """The bill of one kind on one machine, in bytes."""

    kind: Kind
    memory: int
    """RAM that this kernel uses."""
    kernel_space: int
    """All of kernel virtual space, ``4 GiB - PAGE_OFFSET``."""
    lowmem_without: int
    """What lowmem would be if the map cost nothing: ``min(max_pfn, MAXMEM_PFN)`` pages."""
    lowmem: int
    """What lowmem is: smaller by what the window takes of its virtual space.  Holes in it count, they take space."""
    dma: int
    """The part of lowmem that is zone DMA; the kernel allocates from the top, so zone NORMAL pays first."""
    window: int
    """Virtual space outside the direct map; 0 unless the map is virtual."""
    backing: int
    """Physical memory that holds ``struct page``s."""
    page_tables: int
    """Page tables of the window: physical memory, always lowmem."""
    mem_section: int
    """The array of sections, in the kernel's bss; SPARSEMEM only."""
    usemap: int
    """Bits that every kind keeps for every pageblock of what it spans; for the record, not in any sum here."""
    from_highmem: int
    """The part of ``backing`` that is highmem."""
    refusal: str
    """Why this kernel does not boot; empty if nothing here speaks against it."""

    @property
    def boots(self) -> bool:
        return not self.refusal

    @property
    def physical(self) -> int:
        """Physical memory that the map takes, wherever it is."""
        return self.backing + self.page_tables + self.mem_section

    @property
    def from_lowmem(self) -> int:
        """The part of it that is lowmem."""
        return self.physical - self.from_highmem

    @property
    def virtual(self) -> int:
        """Kernel virtual space that the map takes: its window, and its lowmem's place in the direct map."""
        return self.window + self.from_lowmem

    @property
    def share(self) -> float:
        """Part of kernel virtual space that the map takes, 0 to 1."""
        return self.virtual / self.kernel_space

    @property
    def left(self) -> int:
        """Lowmem that is left: zones DMA and NORMAL, what the debate calls zone NORMAL; negative if it cannot be."""
        return self.lowmem - self.from_lowmem

    @property
    def normal_left(self) -> int:
        """What is left of zone NORMAL itself, above zone DMA."""
        return max(0, self.left - self.dma)

    @property
    def lost(self) -> int:
        """What the map costs zones DMA and NORMAL, whether as memory or as virtual space."""
        return self.lowmem_without - self.left


class Limit(NamedTuple):
    """The most RAM with which a kind still boots, and what stops it there."""

    memory: int
    reason: str
    """Empty if paging can reach no more RAM than that."""


def kinds(configuration: Configuration) -> tuple[Kind, ...]:
    """The kinds that can be worked out for this kernel: SPARSEMEM only since there is one."""
    return tuple(kind for kind in KINDS if kind is not SPARSEMEM or has_sparsemem(configuration))


def has_sparsemem(configuration: Configuration) -> bool:
    """Whether kernels of this era know SPARSEMEM on i386."""
    return eras.shown(configuration.marks).section_size_bits is not None


def budget(configuration: Configuration, kind: Kind) -> Budget:
    """The bill of ``kind`` on the machine and with the kernel of ``configuration``.

    :raises UsageError: if no kind could help: this kernel does not exist, or has no room for its vmalloc area
    """
    prediction = Prediction(replace(configuration, sparsemem=kind is SPARSEMEM))
    if kind.memory_model == "virtual":
        return _virtual(prediction, kind)
    return _in_the_direct_map(prediction, kind)


def limit(configuration: Configuration, kind: Kind, step: int = 1 << 20) -> Limit | None:
    """By bisection over QEMU's machines: where RAM becomes too much for ``kind``.

    :param step: bytes, the precision
    :returns: ``None`` if it boots with none of 64 MiB, 128 MiB, and so on; with less than a section's map takes,
        SPARSEMEM may lack room that more RAM brings
    """
    most = BIGGEST_MEMORY[configuration.pae]
    sizes = [SMALLEST_MEMORY << n for n in range((most // SMALLEST_MEMORY).bit_length())]
    bootable = [memory for memory in sizes if not _refusal(configuration, kind, memory)]
    if not bootable:
        return None
    if bootable[-1] == most:
        return Limit(most, "")
    steps = range(bootable[-1] // step, 2 * bootable[-1] // step)
    fails = steps.start + bisect_left(
        steps, True, key=lambda n: bool(_refusal(configuration, kind, n * step))
    )
    return Limit((fails - 1) * step, _refusal(configuration, kind, fails * step))


def _refusal(configuration: Configuration, kind: Kind, memory: int) -> str:
    try:
        return budget(replace(configuration, e820=machine.e820_of(memory)), kind).refusal
    except UsageError as error:
        return error.message


def _in_the_direct_map(prediction: Prediction, kind: Kind) -> Budget:
    """FLATMEM: one array from pfn 0; SPARSEMEM: one piece for every section that holds RAM."""
    configuration, edges = prediction.configuration, _Edges(prediction)
    if kind is SPARSEMEM:
        section = memmap.pages_per_section(configuration)
        pieces = len(memmap.present_sections(configuration, prediction.registered))
        piece = pfn_up(section * configuration.page_struct_size)
        spanned = pieces * section
        mem_section = MEM_SECTION_SIZE << prediction.memmap.flags.section_width
    else:
        assert prediction.memmap.length is not None
        pieces, spanned, mem_section = 1, prediction.memmap.length, 0
        piece = pfn_up(spanned * configuration.page_struct_size)
    free = unreserved(prediction, edges.max_low_pfn).free
    room = sum(len(run) // piece for run in free)
    refusal = ""
    if room < pieces and kind is SPARSEMEM:
        some = "1 piece" if pieces == 1 else f"{pieces} pieces"
        refusal = f"mem_map takes {some} of {_size(piece)}, and lowmem has room for {room}"
    elif room < pieces:
        short = piece - max(map(len, free), default=0)
        refusal = (
            f"mem_map takes {_size(piece)}, and the longest free piece of lowmem is {_size(short)} short"
        )
    return Budget(
        kind=kind,
        memory=edges.memory,
        kernel_space=layout.TOP - configuration.page_offset,
        lowmem_without=edges.max_low_pfn * PAGE_SIZE,
        lowmem=edges.max_low_pfn * PAGE_SIZE,
        dma=edges.dma(edges.max_low_pfn),
        window=0,
        backing=pieces * piece * PAGE_SIZE,
        page_tables=0,
        mem_section=mem_section,
        usemap=_usemap(configuration, spanned),
        from_highmem=0,
        refusal=refusal,
    )


def _virtual(prediction: Prediction, kind: Kind) -> Budget:
    """A window for every pfn up to the last; memory and page tables only where there is RAM."""
    configuration, edges = prediction.configuration, _Edges(prediction)
    directory_entry = prediction.form.levels[-2].span
    spanned, window = window_size(prediction)
    leaf = directory_entry if kind.large else PAGE_SIZE
    backing = leaf * _touched(prediction, edges.max_pfn, leaf)
    page_tables = 0 if kind.large else PAGE_SIZE * _touched(prediction, edges.max_pfn, directory_entry)

    max_low_pfn = min(edges.max_low_pfn, max(0, layout.maxmem_pfn(configuration) - window // PAGE_SIZE))
    lowmem, highmem = Range(0, max_low_pfn), Range(max_low_pfn, edges.max_pfn)
    free = unreserved(prediction, edges.max_pfn)
    wanted, align = backing // PAGE_SIZE, leaf // PAGE_SIZE
    high = 0 if kind.lowmem_backed else sum(map(len, free.scrape(wanted, highmem, align=align)))
    low = sum(map(len, free.scrape(wanted - high, lowmem, align=align)))
    tables = sum(map(len, free.scrape(page_tables // PAGE_SIZE, lowmem)))
    refusal = ""
    if max_low_pfn < image_pfns(configuration).end:
        room = _size(max_low_pfn)
        refusal = (
            f"a window of {_size(window // PAGE_SIZE)} leaves {room} of lowmem, and the image lies above"
        )
    elif (high + low, tables) != (wanted, page_tables // PAGE_SIZE):
        lacking = wanted - high - low + page_tables // PAGE_SIZE - tables
        refusal = f"beside a window of {_size(window // PAGE_SIZE)}, lowmem lacks {_size(lacking)} to back it"
    return Budget(
        kind=kind,
        memory=edges.memory,
        kernel_space=layout.TOP - configuration.page_offset,
        lowmem_without=edges.max_low_pfn * PAGE_SIZE,
        lowmem=max_low_pfn * PAGE_SIZE,
        dma=edges.dma(max_low_pfn),
        window=window,
        backing=backing,
        page_tables=page_tables,
        mem_section=0,
        usemap=_usemap(configuration, spanned),
        from_highmem=high * PAGE_SIZE,
        refusal=refusal,
    )


class _Edges:
    """Where memory and zones end in a kernel that has no window."""

    def __init__(self, prediction: Prediction) -> None:
        found = prediction.layout
        self.max_low_pfn = found.max_low_pfn
        self.max_pfn = found.max_pfn
        self.memory = prediction.ram.pages(0, self.max_pfn) * PAGE_SIZE
        self._configuration = prediction.configuration

    def dma(self, max_low_pfn: int) -> int:
        """Bytes of zone DMA."""
        has_zone = "DMA" in self._configuration.zone_names
        return min(MAX_DMA_PFN, max_low_pfn) * PAGE_SIZE if has_zone else 0


def unreserved(prediction: Prediction, end: int) -> Memblock:
    """RAM below pfn ``end``, less the first MiB and the image."""
    memblock = Memblock(prediction.ram.below(end).ranges)
    memblock.reserve(Range(0, ISA_END // PAGE_SIZE))
    memblock.reserve(image_pfns(prediction.configuration))
    return memblock


def _touched(prediction: Prediction, max_pfn: int, size: int) -> int:
    """How many aligned pieces of ``size`` bytes of the window hold a ``struct page`` of RAM."""
    page = prediction.configuration.page_struct_size
    count, end = 0, 0
    for r in prediction.ram.below(max_pfn).ranges:
        # The range below may have touched the first piece already.
        first = max(end, r.start * page // size)
        end = div_round_up(r.end * page, size)
        count += end - first
    return count


def _usemap(configuration: Configuration, pages: int) -> int:
    return PAGEBLOCK_BITS * div_round_up(pages, 1 << (configuration.max_order - 1)) // 8


def _size(pages: int) -> str:
    """Pages of 4 KiB for a person."""
    return f"{pages * 4} KiB" if pages < 256 else f"{pages / 256:.1f} MiB"

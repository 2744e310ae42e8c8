"""``managed_pages``: what is left of each zone when the boot-time allocator hands it to the page allocator.

``spanned`` and ``present`` are arithmetic.  ``managed`` is ``present`` less what was reserved or allocated before
mem_init() and is never given back; its bounds here add up those takers by name, each with the least and the most that
it can take.  Highmem has none: it is given away whole before lowmem is (set_highmem_pages_init; an initrd that lay
there was moved down first, relocate_initrd).  Init memory and initrd come back later, so they do not count.

Not followed: ``crashkernel=``, ``cma=``, ``log_buf_len=``, ``dhash_entries=``, ``ihash_entries=``, ``swiotlb=``,
``page_owner``, KFENCE, and the like, which set lowmem apart because somebody asked for it.

Source: mm/memblock.c (memblock_free_all), mm/page_alloc.c (alloc_node_mem_map, alloc_large_system_hash), mm/percpu.c
(pcpu_embed_first_chunk), fs/dcache.c, fs/inode.c, kernel/dma/swiotlb.c (swiotlb_init_remap), arch/x86/kernel/setup.c
(setup_arch), pci-dma.c (pci_swiotlb_detect), arch/x86/realmode/init.c (reserve_real_mode), arch/x86/mm/init.c
(alloc_low_pages, free_initmem), 6.1.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model import budget, eras
from kvmtools.model.memmaps.metered_memory import image_pfns
from kvmtools.model.memory.ram import ISA_END
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import div_round_up, pfn_up
from kvmtools.model.space.layout import TOP
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Range, ZoneSpan

OLDEST = "5.10"
"""2.4 and 2.6 have no ``managed_pages``."""
FOUR_GIB = 1 << (32 - PAGE_SHIFT)

BUCKET = 4
"""Bytes of a hash bucket: ``struct hlist_head``, ``struct hlist_bl_head``."""
DENTRY_SCALE, INODE_SCALE = 13, 14
"""A bucket for so much lowmem, as a power of two."""
SWIOTLB = 64 << 20
"""IO_TLB_DEFAULT_SIZE."""
SWIOTLB_SLOT = 1 << 11
SWIOTLB_SLOT_RECORD = (12, 20)
"""``sizeof(struct io_tlb_slot)``: 16 in 6.1; in 5.10 two or three arrays."""
PER_CPU_SMALLEST = 32 << 10
"""PCPU_MIN_UNIT_SIZE."""
PER_CPU_EXTRA = (8 << 10) + (28 << 10)
"""PERCPU_MODULE_RESERVE and PERCPU_DYNAMIC_RESERVE, behind a CPU's static variables."""
RESERVE_LOW = 64 << 10
"""The first 64 KiB: what 5.10 keeps from BIOSes, at least (trim_low_memory_range)."""
REST = 1 << 20
"""Allowance for the small: pageblock bits, memblock's and the per-CPU allocator's own arrays, ``struct resource``s,
the command line, a log buffer for many CPUs."""


class Taker(NamedTuple):
    """Who takes pages of lowmem for good, and how many."""

    name: str
    least: int
    most: int


class Managed(NamedTuple):
    """One zone, in pages."""

    zone: str
    spanned: int
    present: int
    lower: int
    upper: int
    """``lower <= managed <= upper``."""
    takers: tuple[Taker, ...]
    """What stands between ``present`` and the bounds."""


def predict(configuration: Configuration, possible_cpus: int | None = None) -> tuple[Managed, ...]:
    """Bounds for every zone, in the order of ``enum zone_type``.

    :param possible_cpus: CPUs that may ever come online; CONFIG_NR_CPUS if not given
    :raises UsageError: if kernels of this era have no such number, or this one cannot boot
    """
    era = eras.shown(configuration.marks)
    if eras.NAMES.index(era.name) < eras.NAMES.index(OLDEST):
        raise UsageError(
            f"kernels of {era.name} do not tell present from managed pages",
            hint=f"the oldest era that does is {OLDEST}",
        )
    if len(configuration.nodes) > 1:
        raise UsageError("which node's memory a boot-time allocation takes is not modelled")
    prediction = Prediction(configuration)
    allocated = allocations(prediction, configuration.nr_cpus if possible_cpus is None else possible_cpus)
    payers = _payers(prediction, allocated)
    return tuple(_managed(prediction, span, allocated, payers) for span in prediction.zones)


def allocations(prediction: Prediction, possible_cpus: int) -> tuple[Taker, ...]:
    """What comes from memblock, in the order of booting; from the top of lowmem down.

    :raises UsageError: if there is no room for ``mem_map``
    """
    configuration = prediction.configuration
    kind = budget.SPARSEMEM if configuration.sparsemem else budget.FLATMEM
    bill = budget.budget(configuration, kind)
    if bill.refusal:
        raise UsageError(f"this kernel does not boot: {bill.refusal}")
    mem_map = bill.backing // PAGE_SIZE
    tables = _page_tables(prediction)
    lowmem = sum(map(len, prediction.ram.below(bill.lowmem // PAGE_SIZE).ranges))
    # What the hash tables are sized by lies between all of lowmem and lowmem less all that is known to be gone.
    known = mem_map + tables + len(image_pfns(configuration)) + (ISA_END >> PAGE_SHIFT)
    takers = [
        Taker("page tables of the direct map and above", 0, tables),
        Taker("mem_map", mem_map, mem_map),
        Taker("pageblock bits", 0, pfn_up(bill.usemap)),
        _per_cpu(configuration, possible_cpus),
    ]
    for name, scale in (("dentry hash", DENTRY_SCALE), ("inode hash", INODE_SCALE)):
        takers.append(Taker(name, _hash_pages(lowmem - known, scale), _hash_pages(lowmem, scale)))
    if configuration.pae and eras.shown(configuration.marks).highmem64g and prediction.ram.end_pfn > FOUR_GIB:
        slots = SWIOTLB // SWIOTLB_SLOT
        takers.append(Taker("bounce buffers (swiotlb)", SWIOTLB // PAGE_SIZE, SWIOTLB // PAGE_SIZE))
        takers.append(Taker("their records", *(pfn_up(slots * record) for record in SWIOTLB_SLOT_RECORD)))
    takers.append(Taker("the rest", 0, REST // PAGE_SIZE))
    return tuple(takers)


def _payers(prediction: Prediction, allocated: tuple[Taker, ...]) -> tuple[ZoneSpan, ...]:
    """The zones that the allocations may come from: the highest of lowmem if all fit there, else any of lowmem."""
    end = prediction.layout.max_low_pfn
    assert end is not None
    lowmem = tuple(span for span in prediction.zones if span.start_pfn < span.end_pfn <= end)
    memblock = budget.unreserved(prediction, end)
    highest = lowmem[-1]
    try:
        for taker in allocated:
            memblock.take(taker.most, Range(highest.start_pfn, highest.end_pfn))
    except UsageError:
        return lowmem
    return (highest,)


def _managed(
    prediction: Prediction, span: ZoneSpan, allocated: tuple[Taker, ...], payers: tuple[ZoneSpan, ...]
) -> Managed:
    present = prediction.present(span)
    takers = _reserved(prediction, span)
    if payers == (span,):
        takers += allocated
    elif span in payers:
        takers += tuple(Taker(taker.name, 0, min(taker.most, present)) for taker in allocated)
    return Managed(
        zone=span.name,
        spanned=span.end_pfn - span.start_pfn,
        present=present,
        lower=max(0, present - sum(taker.most for taker in takers)),
        upper=present - sum(taker.least for taker in takers),
        takers=takers,
    )


def _reserved(prediction: Prediction, span: ZoneSpan) -> tuple[Taker, ...]:
    """What has its place, not its size only: the first MiB and the image."""
    configuration, ram = prediction.configuration, prediction.ram

    def pages(*ranges: Range) -> int:
        return sum(ram.pages(max(r.start, span.start_pfn), min(r.end, span.end_pfn)) for r in ranges)

    isa = ram.below(ISA_END >> PAGE_SHIFT).ranges
    whole = eras.shown(configuration.marks).first_mib_reserved
    low = isa if whole else ram.below(RESERVE_LOW >> PAGE_SHIFT).ranges
    image = image_pfns(configuration)
    core: tuple[Range, ...] = (image,)
    kept = core
    sections, base = configuration.image.sections, configuration.page_offset
    if {"__init_begin", "__init_end", "__bss_start", "__bss_stop"} <= sections.keys():
        begin, end, bss, stop = (
            pfn_up(sections[name] - base)
            for name in ("__init_begin", "__init_end", "__bss_start", "__bss_stop")
        )
        # Between init memory and bss: the places of lock prefixes, freed if there is one CPU.  Behind bss: brk, kept as
        # far as it was used.
        kept = (Range(image.start, begin), Range(end, image.end))
        core = (Range(image.start, begin), Range(bss, stop))
    found = (
        Taker("first MiB", pages(*low), pages(*isa)),
        Taker("kernel image", pages(*core), pages(*kept)),
    )
    return tuple(taker for taker in found if taker.most)


def _page_tables(prediction: Prediction) -> int:
    """The most page tables that init_mem_mapping() and its like can need beside those in the image."""
    configuration, layout = prediction.configuration, prediction.layout
    directory = prediction.form.levels[-2]
    covered = directory.span // PAGE_SIZE
    # Fixmap, CPU entry areas and pkmap get theirs early, and PAE one page directory for every GiB.
    above = (TOP - layout.vmalloc_end) // directory.span + 1
    directories = (TOP - configuration.page_offset) // (directory.span << directory.bits)
    if configuration.pse and not configuration.debug_pagealloc:
        # The first entry, and the ragged ends of RAM.
        below = 1 + 2 * len(prediction.ram.below(layout.max_low_pfn).ranges)
    else:
        below = div_round_up(layout.max_low_pfn, covered)
    return below + above + directories


def _per_cpu(configuration: Configuration, possible_cpus: int) -> Taker:
    sections = configuration.image.sections
    static = sections.get("__per_cpu_end", 0) - sections.get("__per_cpu_start", 0)
    least = pfn_up(max(static, PER_CPU_SMALLEST))
    most = pfn_up(max(static + PER_CPU_EXTRA, 2 * PER_CPU_SMALLEST))
    return Taker(f"per-CPU areas of {possible_cpus} CPUs", least, most * possible_cpus)


def _hash_pages(lowmem: int, scale: int) -> int:
    """alloc_large_system_hash(): a bucket for every ``1 << scale`` bytes of lowmem, whose number is a power of two.

    The kernel rounds lowmem up to whole MiB first.  As the number is rounded up too, no power of two lies between.  The
    table is a page at least; that it takes no more than a sixteenth of memory goes without saying at these scales.
    """
    buckets = max(div_round_up(lowmem, 1 << (scale - PAGE_SHIFT)), PAGE_SIZE // BUCKET)
    return pfn_up(BUCKET << (buckets - 1).bit_length())

"""The boundaries of the kernel's address space, worked out from the top down.

Source: arch/x86/include/asm/pgtable_32_areas.h, fixmap.h, setup.h (MAXMEM_PFN), arch/x86/mm/pgtable_32.c
(``vmalloc=``, ``reservetop=``), pgtable.c (reserve_top_address), init_32.c (initmem_init, and what mem_init
insists on), the same text in 5.10, 6.1, 6.12 and 7.2; include/asm-i386/highmem.h, fixmap.h, pgtable.h, page.h,
2.4.18 and 2.6.18; arch/x86/include/asm/pgtable_32_types.h, 2.6.32.

From the top: a page that is never mapped, the fixmap, since 4.15 the CPU entry area and the LDT slot, the pkmap area,
two guard pages, the vmalloc area, 8 MiB of hole or somewhat more, and lowmem down to PAGE_OFFSET.  Each area begins on
a boundary of the page directory, so that it has page tables of its own.  Only 2.4 nails pkmap to 0xFE000000.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.command_line import size
from kvmtools.model.eras import Era
from kvmtools.model.eras.dialects import MaxmemBelow, PkmapBelow, Reservetop, VmallocOption
from kvmtools.model.impossible import refuse_impossible
from kvmtools.model.memory import ram as ram_of
from kvmtools.model.memory.ram import Ram
from kvmtools.model.memory.zones import find_low_pfn_range
from kvmtools.model.paging.walk import form_of
from kvmtools.model.rounding import rounddown, roundup
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, PredictedLayout, Range

TOP = 1 << 32
VMALLOC_OFFSET = 8 << 20
VMALLOC_RESERVE = 128 << 20
VMALLOC_GUARD = 2 * PAGE_SIZE


def predict(configuration: Configuration, ram: Ram | None = None) -> PredictedLayout:
    """Every boundary that a kernel of this configuration has.

    :param ram: what :func:`kvmtools.model.memory.ram.usable` found; worked out here if not given
    :raises UsageError: if no kernel can have this configuration, or it could not boot
    """
    era = eras.shown(configuration.marks)
    refuse_impossible(configuration, era)
    if ram is None:
        ram = ram_of.usable(configuration)
    above = _above(configuration, era)
    vmalloc_end = above.vmalloc_end
    most = _maxmem(configuration, era, vmalloc_end) >> PAGE_SHIFT
    max_low_pfn, max_pfn = find_low_pfn_range(configuration, ram.end_pfn, most)
    highstart_pfn = min(max_low_pfn, max_pfn)
    high_memory = configuration.page_offset + highstart_pfn * PAGE_SIZE
    vmalloc_start = roundup(high_memory + VMALLOC_OFFSET, era.vmalloc_start_rounding)
    if vmalloc_start >= vmalloc_end:
        raise UsageError(
            f"lowmem up to {high_memory:#x} leaves no vmalloc area below {vmalloc_end:#x}",
            hint="vmalloc= on the guest's command line is too small for a kernel to boot",
        )
    return PredictedLayout(
        page_offset=configuration.page_offset,
        high_memory=high_memory,
        vmalloc_start=vmalloc_start,
        vmalloc_end=vmalloc_end,
        max_low_pfn=max_low_pfn,
        max_pfn=max_pfn,
        max_mapnr=_max_mapnr(configuration, era, max_pfn, ram),
        highmem=Range(highstart_pfn, max_pfn) if configuration.highmem else None,
        fixaddr_top=above.fixaddr_top,
        fixaddr_start=above.fixaddr_start,
        fixaddr_tot_start=above.fixaddr_tot_start,
        pkmap=above.pkmap,
        ldt=above.ldt,
        cpu_entry_area=above.cpu_entry_area,
    )


def fixaddr_top(configuration: Configuration) -> int:
    """``FIXADDR_TOP``, which ``reservetop=`` moves."""
    era = eras.shown(configuration.marks)
    return _fixaddr_top(configuration, era, form_of(configuration).levels[-2].span)


def maxmem_pfn(configuration: Configuration) -> int:
    """``MAXMEM_PFN``: where lowmem ends if there is RAM enough.

    :raises UsageError: if the areas above lowmem leave none
    """
    era = eras.shown(configuration.marks)
    return _maxmem(configuration, era, _above(configuration, era).vmalloc_end) >> PAGE_SHIFT


class _Above(NamedTuple):
    """What lies above the vmalloc area, none of which depends on RAM, and where that area ends."""

    fixaddr_top: int
    fixaddr_start: int
    fixaddr_tot_start: int
    cpu_entry_area: Range | None
    ldt: Range | None
    pkmap: Range | None
    vmalloc_end: int


def _above(configuration: Configuration, era: Era) -> _Above:
    levels = form_of(configuration).levels
    pmd_size = levels[-2].span
    top = _fixaddr_top(configuration, era, pmd_size)
    start = top - configuration.end_of_permanent_fixed_addresses * PAGE_SIZE
    floor = total_start = top - configuration.end_of_fixed_addresses * PAGE_SIZE
    entry_area = ldt = pkmap = None
    # The slots for booting are vmalloc's again, unless something lies between.
    ceiling = start
    if era.cpu_entry_area:
        # The page that is added holds the read-only IDT; it comes first.
        pages = 1 + configuration.nr_cpus * (configuration.cpu_entry_area_size // PAGE_SIZE)
        floor = rounddown(floor - pages * PAGE_SIZE, pmd_size)
        entry_area = Range(floor, floor + pages * PAGE_SIZE)
    if era.ldt_remap:
        ceiling = floor = rounddown(floor - PAGE_SIZE, pmd_size)
        ldt = Range(floor, floor + pmd_size)
    if configuration.highmem:
        ceiling = _pkmap_base(era, floor, pmd_size)
        pkmap = Range(ceiling, ceiling + pmd_size)
    return _Above(top, start, total_start, entry_area, ldt, pkmap, ceiling - VMALLOC_GUARD)


def _pkmap_base(era: Era, floor: int, pmd_size: int) -> int:
    """Where pkmap begins: it is as large as one page table maps, ``pmd_size``.

    :param floor: the lowest address in use above it
    :raises UsageError: if the constant of 2.4 does not leave the fixmap enough room
    """
    if era.pkmap_below is PkmapBelow.LDT:
        return rounddown(floor - PAGE_SIZE, pmd_size)
    if era.pkmap_base is None:
        return rounddown(floor - PAGE_SIZE - pmd_size, pmd_size)
    end = era.pkmap_base + pmd_size
    if floor < end:
        raise UsageError(
            f"the fixmap would reach down to {floor:#x}, into the pkmap area that ends at {end:#x}",
            hint="a kernel of this era cannot be built for so many CPUs",
        )
    return era.pkmap_base


def _fixaddr_top(configuration: Configuration, era: Era, pmd_size: int) -> int:
    reserve = _reserved_top(configuration, era)
    if reserve is None:
        return era.fixaddr_top
    alignment = pmd_size if era.reservetop_option is Reservetop.ROUNDED else 1
    return (rounddown(-reserve % TOP, alignment) - PAGE_SIZE) % TOP


def _reserved_top(configuration: Configuration, era: Era) -> int | None:
    """``reservetop=`` in bytes; ``None`` if it is not given, or not known."""
    return (
        None
        if era.reservetop_option is Reservetop.UNKNOWN
        else size(configuration.command_line, "reservetop")
    )


def _maxmem(configuration: Configuration, era: Era, vmalloc_end: int) -> int:
    """``MAXMEM``: the most lowmem there can be, in bytes.

    :raises UsageError: if the areas above lowmem leave none
    """
    reserve = _vmalloc_reserve(configuration, era)
    top = {MaxmemBelow.TOP: TOP, MaxmemBelow.VMALLOC_END: vmalloc_end}[era.maxmem_below]
    maxmem = top - configuration.page_offset - reserve
    if maxmem < PAGE_SIZE:
        raise UsageError(
            f"a vmalloc area of {reserve >> 20} MiB below {top:#x} leaves no room for lowmem",
            hint="lower vmalloc= or reservetop= on the guest's command line",
        )
    return maxmem


def _vmalloc_reserve(configuration: Configuration, era: Era) -> int:
    """``__VMALLOC_RESERVE``, in bytes; 2.4 does not know the option."""
    reserve = size(configuration.command_line, "vmalloc")
    if reserve is None or era.vmalloc_option is VmallocOption.UNKNOWN:
        reserve = VMALLOC_RESERVE
    elif era.vmalloc_option is VmallocOption.PLUS_OFFSET:
        reserve += VMALLOC_OFFSET
    if era.reservetop_option is Reservetop.EXACT_AND_VMALLOC:
        reserve += _reserved_top(configuration, era) or 0
    return reserve % TOP


def _max_mapnr(configuration: Configuration, era: Era, max_pfn: int, ram: Ram) -> int | None:
    """``max_mapnr``, which FLATMEM alone has; aligned, it counts from where RAM really ends."""
    if configuration.sparsemem:
        return None
    if not era.max_mapnr_aligned:
        return max_pfn
    return roundup(ram.below(max_pfn).ranges[-1].end, 1 << (configuration.max_order - 1))

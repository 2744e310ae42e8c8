"""The boundaries of the kernel's address space, worked out from the top down.

Source: arch/x86/include/asm/pgtable_32_areas.h, fixmap.h, setup.h (MAXMEM_PFN), arch/x86/mm/pgtable_32.c
(``vmalloc=``, ``reservetop=``), pgtable.c (reserve_top_address), init_32.c (initmem_init, and what mem_init
insists on); 5.10, 6.1 and 6.12 have the same text.

From the top: a page that is never mapped, the fixmap, the CPU entry area, the LDT slot, the pkmap area, two
guard pages, the vmalloc area, 8 MiB of hole, and lowmem down to PAGE_OFFSET.  Each area begins on a
boundary of the page directory, so that it has page tables of its own.
"""

from __future__ import annotations

from kvmtools.errors import UsageError
from kvmtools.model import ram as ram_of
from kvmtools.model.command_line import size
from kvmtools.model.paging import form_of
from kvmtools.model.ram import Ram
from kvmtools.model.zones import find_low_pfn_range
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Layout

TOP = 1 << 32
FIXADDR_TOP = TOP - PAGE_SIZE
VMALLOC_OFFSET = 8 << 20
VMALLOC_RESERVE = 128 << 20
VMALLOC_GUARD = 2 * PAGE_SIZE


def predict(configuration: Configuration, ram: Ram | None = None) -> Layout:
    """Every boundary that a kernel of this configuration has.

    :param ram: what :func:`kvmtools.model.ram.usable` found; worked out here if not given
    :raises UsageError: if no kernel can have this configuration, or it could not boot
    """
    _refuse_impossible(configuration)
    if ram is None:
        ram = ram_of.usable(configuration)
    levels = form_of(configuration).levels
    pmd_size = levels[-2].span

    fixaddr_top = _fixaddr_top(configuration, pmd_size)
    fixaddr_start = fixaddr_top - configuration.end_of_permanent_fixed_addresses * PAGE_SIZE
    fixaddr_tot_start = fixaddr_top - configuration.end_of_fixed_addresses * PAGE_SIZE
    # The page that is added holds the read-only IDT; it comes first.
    entry_pages = 1 + configuration.nr_cpus * -(-configuration.cpu_entry_area_size // PAGE_SIZE)
    cpu_entry_area_base = _down(fixaddr_tot_start - entry_pages * PAGE_SIZE, pmd_size)
    ldt_base = _down(cpu_entry_area_base - PAGE_SIZE, pmd_size)
    pkmap_base = _down(ldt_base - PAGE_SIZE, pmd_size)
    vmalloc_end = (pkmap_base if configuration.highmem else ldt_base) - VMALLOC_GUARD

    maxmem_pfn = _maxmem(configuration, vmalloc_end) >> PAGE_SHIFT
    max_low_pfn, max_pfn = find_low_pfn_range(configuration, ram.end_pfn, maxmem_pfn)
    highstart_pfn = min(max_low_pfn, max_pfn)
    high_memory = configuration.page_offset + highstart_pfn * PAGE_SIZE
    if high_memory + VMALLOC_OFFSET >= vmalloc_end:
        raise UsageError(
            f"lowmem up to {high_memory:#x} leaves no vmalloc area below {vmalloc_end:#x}",
            hint="vmalloc= on the guest's command line is too small for a kernel to boot",
        )
    return Layout(
        page_offset=configuration.page_offset,
        high_memory=high_memory,
        vmalloc_start=high_memory + VMALLOC_OFFSET,
        vmalloc_end=vmalloc_end,
        pkmap_base=pkmap_base if configuration.highmem else None,
        last_pkmap=1 << levels[-1].bits if configuration.highmem else None,
        ldt_base=ldt_base,
        ldt_end=ldt_base + pmd_size,
        cpu_entry_area_base=cpu_entry_area_base,
        cpu_entry_area_end=cpu_entry_area_base + entry_pages * PAGE_SIZE,
        fixaddr_tot_start=fixaddr_tot_start,
        fixaddr_start=fixaddr_start,
        fixaddr_top=fixaddr_top,
        max_low_pfn=max_low_pfn,
        max_pfn=max_pfn,
        highstart_pfn=highstart_pfn if configuration.highmem else None,
        highend_pfn=max_pfn if configuration.highmem else None,
        max_mapnr=None if configuration.sparsemem else (max_pfn if configuration.highmem else max_low_pfn),
    )


def _fixaddr_top(configuration: Configuration, pmd_size: int) -> int:
    reserve = size(configuration.command_line, "reservetop")
    if reserve is None:
        return FIXADDR_TOP
    return (_down(-reserve % TOP, pmd_size) - PAGE_SIZE) % TOP


def _maxmem(configuration: Configuration, vmalloc_end: int) -> int:
    """``MAXMEM``: the most lowmem there can be, in bytes.

    :raises UsageError: if the areas above lowmem leave none
    """
    asked = size(configuration.command_line, "vmalloc")
    reserve = VMALLOC_RESERVE if asked is None else (asked + VMALLOC_OFFSET) % TOP
    maxmem = vmalloc_end - configuration.page_offset - reserve
    if maxmem <= 0:
        raise UsageError(
            f"a vmalloc area of {reserve >> 20} MiB below {vmalloc_end:#x} leaves no room for lowmem",
            hint="lower vmalloc= or reservetop= on the guest's command line",
        )
    return maxmem


def _down(address: int, alignment: int) -> int:
    return address & -alignment


def _refuse_impossible(configuration: Configuration) -> None:
    """Combinations that Kconfig or a BUILD_BUG_ON rules out.

    :raises UsageError: with the reason, if one is there
    """
    c = configuration
    directory = 1 << (30 if c.pae else 22)
    impossible = {
        f"PAGE_OFFSET {c.page_offset:#x} is not on a boundary of {directory >> 20} MiB,"
        " what one entry of the page directory covers": c.page_offset % directory or not c.page_offset,
        "a CPU without PAE paging has no NX bit": c.nx and not c.pae,
        "page-table isolation on i386 needs PAE": c.pti and not c.pae,
        f"NR_CPUS is {c.nr_cpus}": c.nr_cpus < 1,
        f"sizeof(struct cpu_entry_area) = {c.cpu_entry_area_size} is not a number of whole pages":
            c.cpu_entry_area_size % PAGE_SIZE or c.cpu_entry_area_size <= 0,
        "the permanent fixmap slots end after all fixmap slots":
            c.end_of_permanent_fixed_addresses > c.end_of_fixed_addresses,
        "zone HIGHMEM and CONFIG_HIGHMEM go together": ("HIGHMEM" in c.zone_names) != c.highmem,
        "a kernel without zone NORMAL does not exist": "NORMAL" not in c.zone_names,
        "the buddy allocator has no orders": c.max_order < 1,
    }  # fmt: skip
    for reason, found in impossible.items():
        if found:
            raise UsageError(f"no i386 kernel has this configuration: {reason}")

"""What the kernel half of ``swapper_pg_dir`` ought to hold, region by region, with effective permissions.

Source: :mod:`kvmtools.model.space.direct_map` for lowmem; above it arch/x86/mm/cpu_entry_area.c, mm/pat/set_memory.c,
5.10 to 7.2; include/asm-i386/fixmap.h and highmem.h, 2.4.18 and 2.6.18.

Permissions that the kernel may change while it runs are left open (``None``):

* lowmem pages become read-only while they are a module's text or rodata: set_memory_ro() on the vmalloc
  address changes the direct map too (cpa_process_alias);
* the real-mode trampoline, read-only and executable in part, lies anywhere below 640 KiB (realmode/init.c);
* the BIOS area is executable where CONFIG_PCI_BIOS found a BIOS to call (pci/pcbios.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.command_line import values
from kvmtools.model.eras import Era
from kvmtools.model.eras.dialects import Reservetop
from kvmtools.model.memory.ram import Ram
from kvmtools.model.paging.walk import form_of
from kvmtools.model.space import direct_map
from kvmtools.model.space.direct_map import ALL, NONE, SOME
from kvmtools.model.space.layout import TOP
from kvmtools.records import PAGE_SIZE, Configuration, Expectation, Leaf, PredictedLayout

DEBUG_STORE_PAGES = 1
DEBUG_BUFFER_PAGES = 32
"""``struct debug_store`` and the PEBS and BTS buffers (asm/intel_ds.h): the end of each CPU's entry area."""


def expectations(configuration: Configuration, layout: PredictedLayout, ram: Ram) -> tuple[Expectation, ...]:
    """Every byte of ``[PAGE_OFFSET, 4 GiB)``, in ascending regions that neither overlap nor leave a gap.

    :raises UsageError: if the configuration does not say where the image's sections are
    """
    era = eras.shown(configuration.marks)
    regions = list(direct_map.regions(configuration, layout, ram))
    regions += _above(configuration, era, layout, regions[-1].end)
    return tuple(_as_this_cpu_can(configuration, region) for region in regions if region.start < region.end)


def large_leaf_fault(configuration: Configuration, layout: PredictedLayout, ram: Ram, leaf: Leaf) -> str:
    """Why a large leaf may not be where it is; empty if it may.

    The direct map has them where a whole directory entry is RAM, but since 2.6.32 never for the first; huge vmalloc
    needs PAE (Kconfig: HAVE_ARCH_HUGE_VMAP); no other area has any.
    """
    size = form_of(configuration).levels[-2].span
    if leaf.size != size:
        return f"{leaf.size:#x} bytes is no size of a large page here"
    if leaf.virtual % size or leaf.physical % size:
        return f"it is not aligned to its size {size:#x}"
    if layout.vmalloc_start <= leaf.virtual and leaf.virtual + size <= layout.vmalloc_end:
        huge = eras.shown(configuration.marks).huge_vmalloc
        return (
            "" if configuration.pae and huge else "huge vmalloc mappings exist with PAE only, and since 4.1"
        )
    return direct_map.large_leaf_fault(configuration, layout, ram, leaf.virtual - configuration.page_offset)


def unmaps_free_pages(configuration: Configuration) -> bool:
    """Whether ``debug_pagealloc`` takes free pages out of the direct map; there is no telling which those are."""
    return configuration.debug_pagealloc


def _above(configuration: Configuration, era: Era, layout: PredictedLayout, at: int) -> Iterator[Expectation]:
    """Everything above lowmem, which ends at ``at``; where two areas do not meet, nothing is mapped."""
    for gap, regions in _areas(configuration, era, layout):
        yield Expectation(gap, at, max(at, regions[0].start), NONE)
        for region in regions:
            yield replace(region, start=max(at, region.start))
        at = max(at, regions[-1].end)
    # reservetop= moves the early fixmap's page table, but its first place in the directory keeps it too.
    moved = era.reservetop_option is not Reservetop.UNKNOWN and values(
        configuration.command_line, "reservetop"
    )
    yield Expectation("top of memory", at, TOP, SOME if moved else NONE)


def _areas(
    configuration: Configuration, era: Era, layout: PredictedLayout
) -> Iterator[tuple[str, tuple[Expectation, ...]]]:
    """The areas in ascending order, each with a name for the gap below it."""
    yield "gap below vmalloc", (Expectation("vmalloc area", layout.vmalloc_start, layout.vmalloc_end, SOME),)
    below = "guard above vmalloc"
    if (pkmap := layout.pkmap) is not None:
        area = Expectation("pkmap", pkmap.start, pkmap.end, SOME, None, True, False)
        yield "guard below pkmap", (area,)
        # Gorman 10.1: the rest of what 2.4 set aside for more slots was never put to use.
        below = "gap below fixmap" if era.pkmap_base is None else "unused rest of pkmap"
    if layout.ldt is not None:
        # With page-table isolation every process maps its own LDT here, read-only.
        presence = SOME if configuration.pti else NONE
        yield (
            below,
            (Expectation("LDT remap", layout.ldt.start, layout.ldt.end, presence, None, False, False),),
        )
    if layout.cpu_entry_area is not None:
        # The LDT remap ends where this begins.
        yield below, tuple(_cpu_entry_area(configuration, layout.cpu_entry_area.start))
        below = "gap below fixmap"
    yield below, tuple(_fixmap(era, layout))


def _fixmap(era: Era, layout: PredictedLayout) -> Iterator[Expectation]:
    """Slot n lies n pages below FIXADDR_TOP; only 2.4 uses slot 0."""
    executable = None if era.vdso_in_fixmap else False
    end = layout.fixaddr_top + (0 if era.fixmap_hole else PAGE_SIZE)
    yield Expectation(
        "boot-time fixmap", layout.fixaddr_tot_start, layout.fixaddr_start, SOME, None, None, False
    )
    yield Expectation("fixmap", layout.fixaddr_start, end, SOME, None, None, executable)


def _cpu_entry_area(configuration: Configuration, base: int) -> Iterator[Expectation]:
    """The read-only IDT page, then one area per CPU; areas of CPUs that cannot exist stay empty."""
    yield Expectation("CPU entry area: IDT", base, base + PAGE_SIZE, ALL, None, False, False)
    pages = configuration.cpu_entry_area_size // PAGE_SIZE
    fixed = (("GDT", 1), ("guard", 1), ("entry stack", 1), ("guard", 1), ("double fault stack", 1))
    tss = pages - sum(count for _, count in fixed) - DEBUG_STORE_PAGES - DEBUG_BUFFER_PAGES
    if tss < 1:
        raise UsageError(
            f"sizeof(struct cpu_entry_area) = {configuration.cpu_entry_area_size} has no room for a TSS",
            hint="this kernel's CPU entry area is laid out in a way that the model does not know",
        )
    members = (
        *fixed,
        ("TSS", tss),
        ("debug store", DEBUG_STORE_PAGES + DEBUG_BUFFER_PAGES),
    )
    at = base + PAGE_SIZE
    for cpu in range(configuration.nr_cpus):
        for member, count in members:
            presence = NONE if member == "guard" else ALL if cpu == 0 and member != "debug store" else SOME
            end = at + count * PAGE_SIZE
            yield Expectation(f"CPU entry area {cpu}: {member}", at, end, presence, None, True, False)
            at = end


def _as_this_cpu_can(configuration: Configuration, region: Expectation) -> Expectation:
    """Without NX all that is mapped can be executed; what is not mapped has no permissions."""
    if region.presence == NONE:
        return replace(region, physical=None, writable=None, executable=None)
    return region if configuration.nx else replace(region, executable=True)

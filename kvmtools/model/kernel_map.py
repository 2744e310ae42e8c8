"""What the kernel half of ``swapper_pg_dir`` ought to hold, region by region, with effective permissions.

Source: arch/x86/mm/init.c (init_mem_mapping, split_mem_range, free_init_pages), mm/init_32.c
(kernel_physical_mapping_init, mark_rodata_ro, mark_nxdata_nx), mm/cpu_entry_area.c, mm/pat/set_memory.c,
kernel/head32.c (mk_early_pgtbl_32), kernel/idt.c (idt_map_in_cea), 6.1.

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
from kvmtools.model.command_line import enabled, values
from kvmtools.model.paging import form_of
from kvmtools.model.ram import BIOS, ISA_END, Ram
from kvmtools.records import PAGE_SIZE, Configuration, Expectation, Layout, Mapping

ALL, NONE, SOME = "all", "none", "some"
TOP = 1 << 32

DEBUG_STORE_PAGES = 1
DEBUG_BUFFER_PAGES = 32
"""``struct debug_store`` and the PEBS and BTS buffers (asm/intel_ds.h): the end of each CPU's entry area."""


def expectations(configuration: Configuration, layout: Layout, ram: Ram) -> tuple[Expectation, ...]:
    """Every byte of ``[PAGE_OFFSET, 4 GiB)``, in ascending regions that neither overlap nor leave a gap.

    :raises UsageError: if the configuration does not say where the image's sections are
    """
    regions = [*_direct_map(configuration, layout, ram), *_above(configuration, layout)]
    return tuple(_as_this_cpu_can(configuration, region) for region in regions if region.start < region.end)


def large_leaf_fault(configuration: Configuration, layout: Layout, ram: Ram, leaf: Mapping) -> str:
    """Why a large leaf may not be where it is; empty if it may.

    The direct map has them where a whole directory entry is RAM, but never for the first; huge vmalloc needs
    PAE (Kconfig: HAVE_ARCH_HUGE_VMAP); no other area has any.
    """
    size = form_of(configuration).levels[-2].span
    if leaf.size != size:
        return f"{leaf.size:#x} bytes is no size of a large page here"
    if leaf.virtual % size or leaf.physical % size:
        return f"it is not aligned to its size {size:#x}"
    assert layout.vmalloc_start is not None
    assert layout.vmalloc_end is not None
    assert layout.max_low_pfn is not None
    if layout.vmalloc_start <= leaf.virtual and leaf.virtual + size <= layout.vmalloc_end:
        return "" if configuration.pae else "huge vmalloc mappings exist with PAE only"
    offset = leaf.virtual - configuration.page_offset
    first, last = offset // PAGE_SIZE, (offset + size) // PAGE_SIZE
    if offset < 0 or last > layout.max_low_pfn:
        return "it lies outside the direct map and the vmalloc area"
    if not configuration.pse or "nopentium" in values(configuration.command_line, "mem"):
        return "this processor's large pages are off"
    if offset == 0:
        return "the first directory entry is split, for the fixed MTRRs"
    if ram.pages(first, last) < last - first:
        return f"pfns [{first:#x}, {last:#x}) are not all RAM"
    return ""


def unmaps_free_pages(configuration: Configuration) -> bool:
    """Whether ``debug_pagealloc`` takes free pages out of the direct map; there is no telling which those are."""
    return configuration.debug_pagealloc


def _direct_map(configuration: Configuration, layout: Layout, ram: Ram) -> Iterator[Expectation]:
    """Lowmem: RAM, and always the first MiB; then what the image makes of its own pages."""
    base = configuration.page_offset
    assert layout.max_low_pfn is not None
    lowmem_end = base + layout.max_low_pfn * PAGE_SIZE
    first_mib = base + ISA_END
    yield _linear(configuration, "low memory", base, base + BIOS.start, None, None)
    yield _linear(configuration, "BIOS area", base + BIOS.start, first_mib, True, None)
    at = first_mib
    for r in ram.within(ISA_END // PAGE_SIZE, layout.max_low_pfn):
        start, end = base + r.start * PAGE_SIZE, base + r.end * PAGE_SIZE
        yield from _hole(configuration, at, start)
        yield from _ram(configuration, start, end)
        at = end
    yield from _hole(configuration, at, lowmem_end)


def _ram(configuration: Configuration, start: int, end: int) -> Iterator[Expectation]:
    """One range of RAM, cut where the image begins and ends."""
    at = start
    for region in _image(configuration):
        if start <= region.start and region.end <= end and region.start < region.end:
            yield _linear(configuration, "direct map", at, region.start, None, False)
            yield region
            at = region.end
    yield _linear(configuration, "direct map", at, end, None, False)


def _image(configuration: Configuration) -> Iterator[Expectation]:
    """The image after mark_rodata_ro(); the pages it frees may become a module's, and read-only with it."""
    text, etext, end_rodata, init, end = (
        _up(_section(configuration, name), PAGE_SIZE)
        for name in ("_text", "_etext", "__end_rodata", "__init_begin", "_end")
    )
    sections = configuration.image.sections
    bss, bss_stop = sections.get("__bss_start", end), sections.get("__bss_stop", end)
    # The IDT lies in bss, yet is read-only (idt_setup_apic_and_irq_gates).
    idt = sections.get("idt_table", bss_stop)
    after_idt = min(idt + PAGE_SIZE, bss_stop)
    sealed = enabled(configuration.command_line, "rodata", True)
    executable = False if sealed else None
    # A large page that text begins in was executable as a whole before it was split.
    head = text & -form_of(configuration).levels[-2].span
    for name, start, stop, may_write, may_execute in (
        ("before the image", head, text, None, None),
        ("kernel text", text, etext, not sealed, True),
        ("kernel rodata", etext, end_rodata, not sealed, executable),
        ("kernel data", end_rodata, init, True, executable),
        ("kernel init memory", init, bss, None, executable),
        ("kernel bss", bss, idt, True if idt < bss_stop else None, executable),
        ("IDT", idt, after_idt, False, executable),
        ("kernel bss", after_idt, bss_stop, True, executable),
        ("kernel brk", bss_stop, end, None, executable),
    ):
        yield _linear(configuration, name, start, stop, may_write, may_execute)


def _hole(configuration: Configuration, start: int, end: int) -> Iterator[Expectation]:
    """Lowmem that is not RAM is unmapped, except as far as the boot tables reached: those PTEs stay."""
    boot = min(max(_boot_map_end(configuration), start), end)
    yield _linear(configuration, "boot map remnant", start, boot, True, True)
    yield Expectation("hole in lowmem", boot, end, NONE)


def _boot_map_end(configuration: Configuration) -> int:
    """Where mk_early_pgtbl_32() stops: after the image and page tables enough for all of lowmem."""
    form = form_of(configuration)
    directory = form.levels[-2]
    lowmem_pages = (TOP - configuration.page_offset) // PAGE_SIZE
    tables = lowmem_pages >> directory.bits
    if len(form.levels) > 2:
        tables += 1 << form.levels[0].bits
    return _up(_section(configuration, "_end") + tables * PAGE_SIZE, directory.span)


def _above(configuration: Configuration, layout: Layout) -> Iterator[Expectation]:
    """Everything above lowmem."""
    assert layout.max_low_pfn is not None
    assert layout.vmalloc_start is not None
    assert layout.vmalloc_end is not None
    assert layout.ldt_base is not None
    assert layout.ldt_end is not None
    assert layout.cpu_entry_area_base is not None
    assert layout.cpu_entry_area_end is not None
    assert layout.fixaddr_tot_start is not None
    assert layout.fixaddr_start is not None
    assert layout.fixaddr_top is not None
    lowmem_end = configuration.page_offset + layout.max_low_pfn * PAGE_SIZE
    pkmap = layout.ldt_base if layout.pkmap_base is None else layout.pkmap_base
    yield Expectation("gap below vmalloc", lowmem_end, layout.vmalloc_start, NONE)
    yield Expectation("vmalloc area", layout.vmalloc_start, layout.vmalloc_end, SOME)
    yield Expectation("guard below pkmap", layout.vmalloc_end, pkmap, NONE)
    yield Expectation("pkmap", pkmap, layout.ldt_base, SOME, None, True, False)
    # With page-table isolation every process maps its own LDT here, read-only.
    ldt = SOME if configuration.pti else NONE
    yield Expectation("LDT remap", layout.ldt_base, layout.ldt_end, ldt, None, False, False)
    yield Expectation("gap below CPU entry area", layout.ldt_end, layout.cpu_entry_area_base, NONE)
    yield from _cpu_entry_area(configuration, layout.cpu_entry_area_base)
    yield Expectation("gap below fixmap", layout.cpu_entry_area_end, layout.fixaddr_tot_start, NONE)
    yield Expectation(
        "boot-time fixmap", layout.fixaddr_tot_start, layout.fixaddr_start, SOME, None, None, False
    )
    # Slot n lies n pages below FIXADDR_TOP, and slot 0 is never used.
    yield Expectation("fixmap", layout.fixaddr_start, layout.fixaddr_top, SOME, None, None, False)
    # reservetop= moves the early fixmap's page table, but its first place in the directory keeps it too.
    top = SOME if values(configuration.command_line, "reservetop") else NONE
    yield Expectation("top of memory", layout.fixaddr_top, TOP, top)


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


def _linear(
    configuration: Configuration,
    name: str,
    start: int,
    end: int,
    writable: bool | None,
    executable: bool | None,
) -> Expectation:
    """A part of the direct map: present, and ``start`` leads to ``start - PAGE_OFFSET``."""
    presence = SOME if unmaps_free_pages(configuration) else ALL
    physical = start - configuration.page_offset
    return Expectation(name, start, end, presence, physical, writable, executable)


def _as_this_cpu_can(configuration: Configuration, region: Expectation) -> Expectation:
    """Without NX all that is mapped can be executed; what is not mapped has no permissions."""
    if region.presence == NONE:
        return replace(region, physical=None, writable=None, executable=None)
    return region if configuration.nx else replace(region, executable=True)


def _section(configuration: Configuration, name: str) -> int:
    try:
        return configuration.image.sections[name]
    except KeyError:
        raise UsageError(f"the configuration does not say where the image's {name} is") from None


def _up(address: int, alignment: int) -> int:
    return -(-address // alignment) * alignment

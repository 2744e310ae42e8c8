"""What the direct map of lowmem ought to hold, with the image that lies in it.

Source: arch/x86/mm/init.c (init_mem_mapping, split_mem_range, free_init_pages), mm/init_32.c
(kernel_physical_mapping_init, mark_rodata_ro, mark_nxdata_nx), kernel/head32.c (mk_early_pgtbl_32), kernel/idt.c,
5.10 to 7.2; arch/i386/mm/init.c, pagetable_init of 2.4.18 and kernel_physical_mapping_init of 2.6.18.

Until 2.6.32 all of lowmem is mapped, holes as well as RAM, and until 2.6.24 what the last large page holds beyond it.
2.4 lets the kernel write and execute everything.  Later kernels with NX leave executable what ``is_kernel_text`` says,
which is everything from PAGE_OFFSET to the end of the init sections, in whole large pages.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmtools.errors import UsageError
from kvmtools.model import boot_features, eras
from kvmtools.model.command_line import values
from kvmtools.model.eras.dialects import ImageProtection
from kvmtools.model.memory.ram import BIOS, ISA_END, Ram
from kvmtools.model.paging.walk import form_of
from kvmtools.model.rounding import rounddown, roundup
from kvmtools.model.space.layout import TOP
from kvmtools.records import PAGE_SIZE, Configuration, Expectation, PredictedLayout

ALL, NONE, SOME = "all", "none", "some"
OVERRUN = "rest of the last large page"


def regions(configuration: Configuration, layout: PredictedLayout, ram: Ram) -> Iterator[Expectation]:
    """Everything from PAGE_OFFSET up to where lowmem, or its last large page, ends.

    :raises UsageError: if the configuration does not say where the image's sections are, or they are not in lowmem
    """
    era = eras.shown(configuration.marks)
    end = configuration.page_offset + layout.max_low_pfn * PAGE_SIZE
    if configuration.image.sections.get("_end", 0) > end:
        raise UsageError(
            f"the kernel's image ends at {configuration.image.sections['_end']:#x}, and lowmem at {end:#x}",
            hint="this kernel could not boot; give the machine more lowmem",
        )
    if era.image_protection is ImageProtection.SECTIONS:
        yield from _by_sections(configuration, end, ram)
    elif era.image_protection is ImageProtection.LARGE_PAGES:
        yield from _by_large_pages(configuration, end)
    else:
        yield linear(configuration, "direct map", configuration.page_offset, end, True, None)
    if era.direct_map_overruns and _large_pages(configuration):
        yield linear(configuration, OVERRUN, end, roundup(end, _span(configuration)), True, None)


def large_leaf_fault(configuration: Configuration, layout: PredictedLayout, ram: Ram, offset: int) -> str:
    """Why the direct map may not have a large page at ``offset``; empty if it may."""
    era, size = eras.shown(configuration.marks), _span(configuration)
    first, last = offset // PAGE_SIZE, (offset + size) // PAGE_SIZE
    end = first + 1 if era.direct_map_overruns else last
    if offset < 0 or end > layout.max_low_pfn:
        return "it lies outside the direct map and the vmalloc area"
    if not _large_pages(configuration):
        return "this processor's large pages are off"
    if offset == 0 and era.first_directory_entry_split:
        return "the first directory entry is split, for the fixed MTRRs"
    if not era.direct_map_holes and ram.pages(first, last) < last - first:
        return f"pfns [{first:#x}, {last:#x}) are not all RAM"
    return ""


def linear(
    configuration: Configuration,
    name: str,
    start: int,
    end: int,
    writable: bool | None,
    executable: bool | None,
) -> Expectation:
    """A part of the direct map: present, and ``start`` leads to ``start - PAGE_OFFSET``."""
    presence = SOME if configuration.debug_pagealloc else ALL
    physical = start - configuration.page_offset
    return Expectation(name, start, end, presence, physical, writable, executable)


def _by_large_pages(configuration: Configuration, end: int) -> Iterator[Expectation]:
    """One mapping with holes and all; what CONFIG_DEBUG_RODATA protects is not known from the outside."""
    etext, init_end = _section(configuration, "_etext"), _section(configuration, "__init_end")
    shared = min(roundup(init_end + 1, _span(configuration)), end)
    yield linear(configuration, "low memory and kernel text", configuration.page_offset, etext, None, True)
    yield linear(configuration, "kernel image", etext, shared, None, None)
    yield linear(configuration, "direct map", shared, end, True, False)


def _by_sections(configuration: Configuration, end: int, ram: Ram) -> Iterator[Expectation]:
    """RAM, and always the first MiB; then what the image makes of its own pages."""
    base = configuration.page_offset
    first_mib = base + ISA_END
    yield linear(configuration, "low memory", base, base + BIOS.start, None, None)
    yield linear(configuration, "BIOS area", base + BIOS.start, first_mib, True, None)
    at = first_mib
    for r in ram.within(ISA_END // PAGE_SIZE, (end - base) // PAGE_SIZE):
        start, stop = base + r.start * PAGE_SIZE, base + r.end * PAGE_SIZE
        yield from _hole(configuration, at, start)
        yield from _ram(configuration, start, stop)
        at = stop
    yield from _hole(configuration, at, end)


def _ram(configuration: Configuration, start: int, end: int) -> Iterator[Expectation]:
    """One range of RAM, cut where the image begins and ends."""
    at = start
    for region in _image(configuration):
        if start <= region.start and region.end <= end:
            yield linear(configuration, "direct map", at, region.start, None, False)
            yield region
            at = region.end
    yield linear(configuration, "direct map", at, end, None, False)


def _image(configuration: Configuration) -> Iterator[Expectation]:
    """The image after mark_rodata_ro(); the pages it frees may become a module's, and read-only with it."""
    text, etext, end_rodata, init, end = (
        roundup(_section(configuration, name), PAGE_SIZE)
        for name in ("_text", "_etext", "__end_rodata", "__init_begin", "_end")
    )
    sections = configuration.image.sections
    bss, bss_stop = sections.get("__bss_start", end), sections.get("__bss_stop", end)
    # The IDT lies in bss, yet is read-only (idt_setup_apic_and_irq_gates).
    idt = sections.get("idt_table", bss_stop)
    after_idt = min(idt + PAGE_SIZE, bss_stop)
    sealed = boot_features.rodata_enabled(configuration.command_line, eras.shown(configuration.marks))
    executable = False if sealed else None
    # A large page that text begins in was executable as a whole before it was split.
    head = rounddown(text, _span(configuration))
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
        yield linear(configuration, name, start, stop, may_write, may_execute)


def _hole(configuration: Configuration, start: int, end: int) -> Iterator[Expectation]:
    """Lowmem that is not RAM is unmapped, except as far as the boot tables reached: those PTEs stay."""
    boot = min(max(_boot_map_end(configuration), start), end)
    yield linear(configuration, "boot map remnant", start, boot, True, True)
    yield Expectation("hole in lowmem", boot, end, NONE)


def _boot_map_end(configuration: Configuration) -> int:
    """Where mk_early_pgtbl_32() stops: after the image and page tables enough for all of lowmem."""
    form = form_of(configuration)
    directory = form.levels[-2]
    lowmem_pages = (TOP - configuration.page_offset) // PAGE_SIZE
    tables = lowmem_pages >> directory.bits
    if len(form.levels) > 2:
        tables += 1 << form.levels[0].bits
    return roundup(_section(configuration, "_end") + tables * PAGE_SIZE, directory.span)


def _large_pages(configuration: Configuration) -> bool:
    return configuration.pse and "nopentium" not in values(configuration.command_line, "mem")


def _span(configuration: Configuration) -> int:
    """Bytes that one entry of the lowest page directory covers."""
    return form_of(configuration).levels[-2].span


def _section(configuration: Configuration, name: str) -> int:
    try:
        return configuration.image.sections[name]
    except KeyError:
        raise UsageError(f"the configuration does not say where the image's {name} is") from None

"""The page tables that a kernel ought to have, really built: something to walk where no kernel runs.

Source: :mod:`kvmtools.model.space.kernel_map` for what is mapped and with which rights; arch/x86/mm/init_32.c, 6.1
(page_table_range_init, permanent_kmaps_init) and mm/cpu_entry_area.c (init_cpu_entry_area_ptes) for the tables that are
there before anything is in them; asm/pgtable_types.h for ``__PAGE_KERNEL`` and ``_PAGE_TABLE``; mm/pti.c and
mm/cpu_entry_area.c (cea_set_pte) for what stays global with page-table isolation, as a 6.1 guest showed too.

What a kernel decides at run time has to be chosen here: :func:`choices`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model import boot_features
from kvmtools.model.paging.forms import ACCESSED, DIRTY, GLOBAL, NX, PRESENT, USER, WRITABLE
from kvmtools.model.paging.page_tables import PageTables
from kvmtools.model.paging.physical import Physical
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import roundup
from kvmtools.model.space import direct_map
from kvmtools.model.space.direct_map import ALL
from kvmtools.model.space.layout import TOP
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Expectation, Range

CHOICES = (
    "a large page wherever the kernel may have one",
    "writable and not executable where the kernel leaves rights open",
    "tables from the end of lowmem",
    "nothing in the vmalloc area, pkmap, fixmap and the user's half",
)
"""What a running kernel decides, and how it is decided here."""
ENTRY_AREA = "frames of the CPU entry area from there too"
ONE_CPU = "one possible CPU: the CPU entry areas of the others are empty"
ENTRY_TEXT = "the entry text ends where the kernel's text does"
PAGE_TABLE = PRESENT | WRITABLE | USER | ACCESSED | DIRTY
"""``_PAGE_TABLE``, which the kernel gives its own tables too (init_32.c: one_page_table_init)."""


class Run(NamedTuple):
    """Pages that follow each other in both spaces, with the same flags."""

    start: int
    end: int
    physical: int
    flags: int


def choices(prediction: Prediction) -> tuple[str, ...]:
    """What was decided for this kernel."""
    entry_area = prediction.layout.cpu_entry_area is not None
    others = entry_area and prediction.configuration.nr_cpus > 1
    isolated = prediction.configuration.pti
    return (*CHOICES, *[ENTRY_AREA] * entry_area, *[ONE_CPU] * others, *[ENTRY_TEXT] * isolated)


def build(prediction: Prediction) -> PageTables:
    """The kernel's page tables in a simulated memory, ``tables.memory``.

    :raises UsageError: if lowmem has no room for the tables
    """
    layout = prediction.layout
    frames = _frames(prediction, layout.max_low_pfn)

    def allocate() -> int:
        frame = next(frames, None)
        if frame is None:
            raise UsageError("all of lowmem would be page tables", hint="give the machine more RAM")
        return frame << PAGE_SHIFT

    memory = Physical(Range(r.start << PAGE_SHIFT, r.end << PAGE_SHIFT) for r in prediction.ram.ranges)
    tables = PageTables(memory, prediction.form, allocate, table_flags=PAGE_TABLE)
    for run in _runs(prediction):
        for virtual, size in _pages(prediction, run):
            tables.map(virtual, run.physical + virtual - run.start, size=size, flags=run.flags)
    for virtual in _prepared(prediction):
        tables.populate(virtual)
    for region in prediction.expectations:
        if region.presence == ALL and region.physical is None:
            # cea_set_pte(): the user's half has it too.
            flags = _flags(prediction, region) | GLOBAL * prediction.configuration.pge
            for virtual in range(region.start, region.end, PAGE_SIZE):
                tables.map(virtual, allocate(), flags=flags)
    return tables


def _frames(prediction: Prediction, max_low_pfn: int) -> Iterator[int]:
    """RAM of lowmem from its end downwards: alloc_low_pages() takes its tables there."""
    for ram in reversed(list(prediction.ram.within(0, max_low_pfn))):
        yield from reversed(range(ram.start, ram.end))


def _runs(prediction: Prediction) -> list[Run]:
    """The direct map; neighbours that turn out alike are one, so that a large page may span them."""
    runs: list[Run] = []
    shared = _global(prediction)
    for region in prediction.expectations:
        if region.physical is None:
            continue
        inside = Range(region.start, region.end)
        cuts = {at for at in (shared.start, shared.end) if at in inside}
        for start, end in pairwise(sorted({region.start, region.end, *cuts})):
            flags = _flags(prediction, region) | GLOBAL * (start in shared)
            if runs and (start, flags) == (runs[-1].end, runs[-1].flags):
                runs[-1] = runs[-1]._replace(end=end)
            else:
                runs.append(Run(start, end, region.physical + start - region.start, flags))
    return runs


def _global(prediction: Prediction) -> Range:
    """The part of the direct map that has the global bit.

    With isolation it is what the user's half of the tables holds too: the large page that the entry text was in when
    pti_init() copied it, whatever else that page held, and text and rodata as well unless isolation was asked for.
    """
    configuration = prediction.configuration
    if not configuration.pge:
        return Range(TOP, TOP)
    if not configuration.pti:
        return Range(configuration.page_offset, TOP)
    sections = configuration.image.sections
    last = sections["_etext"] - 1
    size = prediction.form.levels[-2].span
    if _large_leaf_fault(prediction, last & -size):
        size = PAGE_SIZE
    start, end = last & -size, (last & -size) + size
    if boot_features.pti_mode(configuration.command_line, prediction.era) == boot_features.AUTO:
        start, end = (
            min(start, sections["_text"]),
            max(end, roundup(sections["__end_rodata"], PAGE_SIZE)),
        )
    return Range(start, end)


def _flags(prediction: Prediction, region: Expectation) -> int:
    """``__PAGE_KERNEL`` and what the region takes from it."""
    configuration = prediction.configuration
    writable = region.writable is not False
    flags = PRESENT | ACCESSED
    if writable:
        flags |= WRITABLE
    if writable or prediction.era.read_only_dirty:
        flags |= DIRTY
    if configuration.nx and not region.executable:
        flags |= NX
    return flags


def _pages(prediction: Prediction, run: Run) -> Iterator[tuple[int, int]]:
    """``(virtual, size)`` of the leaves that map a run."""
    large = prediction.form.levels[-2].span
    virtual = run.start
    while virtual < run.end:
        whole = virtual % large == 0 and virtual + large <= run.end
        size = large if whole and not _large_leaf_fault(prediction, virtual) else PAGE_SIZE
        yield virtual, size
        virtual += size


def _large_leaf_fault(prediction: Prediction, virtual: int) -> str:
    offset = virtual - prediction.configuration.page_offset
    return direct_map.large_leaf_fault(prediction.configuration, prediction.layout, prediction.ram, offset)


def _prepared(prediction: Prediction) -> Iterator[int]:
    """An address in every table that is there from boot on, for pages that come and go."""
    layout, span = prediction.layout, prediction.form.levels[-2].span
    areas = [Range(layout.fixaddr_start, layout.fixaddr_top)]
    areas += [area for area in (layout.cpu_entry_area, layout.pkmap) if area is not None]
    for area in areas:
        yield from range(area.start & -span, area.end, span)

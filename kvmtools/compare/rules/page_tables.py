"""Rules about where the kernel's page tables lead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.model.space.direct_map import ALL, NONE
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Expectation

LOOK = "kvmtools vtop {virtual}: every level with its raw entry; kvmtools walk: the neighbourhood"
LOCKS = ("init_mm.page_table_lock", "pgd_lock", "cpa_lock")


def leaf_finding(case: Case, row: int, expected: str, observed: str, **more: Any) -> Finding:
    """A finding about a leaf of the kernel's walk; ``physical`` is where its entry stands."""
    walk = case.kernel_walk
    address = int(walk.virtual[row])
    return Finding(
        subjects.virtual(address),
        expected,
        observed,
        virtual=address,
        physical=int(walk.table[row]) + int(walk.index[row]) * walk.form.entry_size,
        pfn=int(walk.physical[row]) >> PAGE_SHIFT,
        symbol=case.region(address),
        raw=int(walk.entry[row]),
        **more,
    )


def rows_within(case: Case, start: int, end: int) -> NDArray[np.intp]:
    """Rows of the leaves that touch ``[start, end)``."""
    walk = case.kernel_walk
    # In numpy's unsigned 64 bits nothing here can wrap: no address is near its end.
    first = int(np.searchsorted(walk.virtual + walk.size, np.uint64(start), "right"))
    last = int(np.searchsorted(walk.virtual, np.uint64(end)))
    return np.arange(first, max(first, last))


def direct_map(case: Case) -> Examination:
    """Every page of lowmem is at ``__va`` of itself."""
    walk = case.kernel_walk
    base, end_pfn = case.page_offset, case.predicted.max_low_pfn
    rows = rows_within(case, base, base + end_pfn * PAGE_SIZE)
    straight = walk.physical[rows] == walk.virtual[rows] - np.uint64(base)

    def spell_crooked(row: int) -> Finding:
        expected = f"physical {int(walk.virtual[row]) - base:#x}"
        return leaf_finding(case, row, expected, f"physical {int(walk.physical[row]):#x}")

    seen = violations(len(rows), rows[~straight], spell_crooked)
    if case.prediction.unmaps_free_pages:
        return seen
    covered = walk.rows(base + np.arange(end_pfn, dtype=np.uint64) * np.uint64(PAGE_SIZE)) >= 0
    return seen + _absent(case, covered, base)


def _absent(case: Case, covered: NDArray[np.bool_], base: int) -> Examination:
    """Runs of lowmem RAM that nothing maps."""
    missing = np.zeros(len(covered), np.bool_)
    total = 0
    for ram in case.ram_ranges:
        rows = slice(ram.start, min(ram.end, len(covered)))
        missing[rows] = ~covered[rows]
        total += len(covered[rows])
    edges = np.flatnonzero(np.diff(missing.astype(np.int8), prepend=0, append=0))

    def spell(run: NDArray[np.intp]) -> Finding:
        start, pages = int(run[0]), int(run[1] - run[0])
        address = base + start * PAGE_SIZE
        return Finding(
            subjects.virtual(address),
            f"present, physical {start * PAGE_SIZE:#x}",
            "not present" if pages == 1 else f"not present, and so the {pages - 1} pages after it",
            virtual=address,
            pfn=start,
            symbol=case.region(address),
        )

    return violations(total, edges.reshape(-1, 2), spell)


def _empty(case: Case, region: Expectation) -> Examination:
    """No leaf in the region."""
    return violations(
        (region.end - region.start) >> PAGE_SHIFT,
        rows_within(case, region.start, region.end),
        lambda row: leaf_finding(case, row, f"nothing mapped: {region.name}", "a present leaf"),
    )


def presence(case: Case) -> Examination:
    """Above lowmem, what must be mapped is, and what must not be is not."""
    walk, seen = case.kernel_walk, Examination(0)
    lowmem_end = case.page_offset + case.predicted.max_low_pfn * PAGE_SIZE
    for region in case.prediction.expectations:
        if region.start < lowmem_end:
            continue
        if region.presence == NONE:
            seen += _empty(case, region)
        elif region.presence == ALL:
            pages = np.arange(region.start, region.end, PAGE_SIZE, dtype=np.uint64)

            def spell(address: int, region: Expectation = region) -> Finding:
                virtual = int(address)
                return Finding(
                    subjects.virtual(virtual),
                    f"present: {region.name}",
                    "not present",
                    virtual=virtual,
                    symbol=region.name,
                )

            seen += violations(len(pages), pages[walk.rows(pages) < 0], spell)
    return seen


RULES = (
    Rule(
        "pagetable.direct-map",
        "every RAM page below max_low_pfn is mapped at PAGE_OFFSET + its physical address",
        "kernel_physical_mapping_init: arch/x86/mm/init_32.c; split_mem_range: arch/x86/mm/init.c, 6.1",
        "leaves and pages",
        LOOK,
        check=direct_map,
        about="swapper_pg_dir",
        exceptions="holes may be mapped or not; DEBUG_PAGEALLOC, hwpoison and memfd_secret unmap pages",
        invariants=(21,),
        locks=LOCKS,
        defers_to=("pagetable.reserved-bits",),
    ),
    Rule(
        "pagetable.presence",
        "above lowmem, what every CPU needs (the IDT, CPU 0's GDT, TSS and stacks) is mapped, and nothing is mapped in "
        "the guard pages and in the gaps between the areas",
        "setup_cpu_entry_area: arch/x86/mm/cpu_entry_area.c; idt_map_in_cea: arch/x86/kernel/idt.c; "
        "pgtable_32_areas.h, fixmap.h: arch/x86/include/asm, 6.1",
        "pages",
        LOOK,
        check=presence,
        about="swapper_pg_dir",
        exceptions="areas that the kernel fills at run time (vmalloc, pkmap, fixmap); the entry areas of other CPUs, "
        "which may not exist; in 2.4 and 2.6.18 the last large page of lowmem may reach into the gap above it",
        invariants=(16, 17, 22),
        needs=("booted",),
        locks=LOCKS,
        defers_to=("pagetable.reserved-bits",),
    ),
)

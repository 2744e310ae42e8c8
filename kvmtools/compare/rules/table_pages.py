"""Rules about the pages that page tables lie in, and about the pages that they lead to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare import places, subjects
from kvmtools.compare.case import AddressSpace, Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.compare.rules.page_tables import leaf_finding
from kvmtools.findings import Finding
from kvmtools.model.paging import walk as model_walk
from kvmtools.observe.paging.walk import Tables
from kvmtools.records import PAGE_SHIFT

LOOK = "kvmtools vtop {virtual}: every level with its raw entry"
LOOK_TABLE = "kvmtools memmap {pfn}: whose page this is; kvmtools vtop {virtual}"
LOCKS = ("init_mm.page_table_lock", "pgd_lock", "cpa_lock")


def _tables(case: Case) -> Iterator[tuple[AddressSpace, Tables]]:
    for space in case.address_spaces:
        yield space, space.walk.tables


def tables_in_ram(case: Case) -> Examination:
    """A page table is a page of RAM that is in use."""
    memmap, seen = case.memmap, Examination(0)
    low = case.predicted.max_low_pfn
    for space, tables in _tables(case):
        pfns = (tables.physical >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        known = tables.readable & (pfns < memmap.length)
        at = np.where(known, pfns, 0)
        # HIGHPTE: only the tables that hold a process's ptes may lie in highmem.
        user_ptes = (tables.level == 1) & (tables.virtual < np.uint64(case.page_offset))
        placed = known & ((pfns < low) | user_ptes)
        used = (memmap.refcount[at] > 0) & ~memmap.buddy[at]
        wrong = np.flatnonzero(~(placed & used))

        def spell(
            row: int, space: AddressSpace = space, tables: Tables = tables, known: bool = True
        ) -> Finding:
            pfn, address = int(tables.physical[row]) >> PAGE_SHIFT, int(tables.virtual[row])
            in_ram = bool(tables.readable[row]) and pfn < memmap.length
            if not in_ram:
                observed = "not in RAM"
            elif memmap.refcount[pfn] <= 0 or memmap.buddy[pfn]:
                observed = f"_refcount {memmap.refcount[pfn]}{', PageBuddy' if memmap.buddy[pfn] else ''}"
            else:
                observed = "in highmem"
            return Finding(
                subjects.table(int(tables.physical[row])),
                "a lowmem page (a process's ptes may be in highmem) with _refcount above 0, not PageBuddy",
                observed,
                virtual=address,
                physical=int(tables.physical[row]),
                pfn=pfn,
                symbol=f"{space.name}, level {tables.level[row]}",
                raw=int(tables.parent_entry[row]),
                touches=(subjects.pfn(pfn), space.subject(address)),
            )

        seen += violations(len(pfns), wrong, spell)
    return seen


def tables_typed(case: Case) -> Examination:
    """A process's page tables are marked as such in ``page_type``."""
    memmap, seen = case.memmap, Examination(0)
    if "table" not in memmap.types.codes:
        return Examination(0, skipped="this kernel has no page type for page tables")
    typed = memmap.types.of(memmap.page_type, "table")
    for space in case.processes:
        tables = space.walk.tables
        top = int(tables.level.max(initial=0))
        pfns = (tables.physical >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        mine = tables.readable & (tables.level < top) & (pfns < memmap.length)
        mine &= tables.virtual < np.uint64(case.page_offset)
        rows = np.flatnonzero(mine)

        def spell(row: int, space: AddressSpace = space, tables: Tables = tables) -> Finding:
            pfn = int(tables.physical[row]) >> PAGE_SHIFT
            return places.of_page(
                memmap,
                pfn,
                "_mapcount",
                f"page_type PG_table: level {tables.level[row]} of {space.name}, {int(tables.virtual[row]):#x}",
                " ".join(memmap.types.names_of(int(memmap.page_type[pfn]))) or "no page type",
                touches=(subjects.table(int(tables.physical[row])),),
            )

        seen += violations(len(rows), rows[~typed[pfns[rows]]], spell)
    return seen


def large_pages(case: Case) -> Examination:
    """Large pages stand only where the kernel puts them."""
    walk = case.kernel_walk
    large = np.flatnonzero((walk.level > 1) & (walk.virtual >= np.uint64(case.page_offset)))
    faults = [
        (row, reason)
        for row in large.tolist()
        if (reason := case.prediction.large_leaf_fault(walk.mapping(row)))
    ]

    def spell(found: tuple[int, str]) -> Finding:
        row, reason = found
        return leaf_finding(case, row, "no large page", f"one of {int(walk.size[row]):#x} bytes: {reason}")

    return violations(len(large), faults, spell)


def mapped_pages_in_use(case: Case) -> Examination:
    """What a process can reach is not free."""
    memmap, seen = case.memmap, Examination(0)
    for space in case.processes:
        walk = space.walk
        pfns = (walk.physical >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        ends = pfns + (walk.size >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        free = np.flatnonzero(case.free_blocks.touch(pfns, ends))

        def spell(row: int, space: AddressSpace = space, pfns: NDArray[np.int64] = pfns) -> Finding:
            pfn, walk, address = int(pfns[row]), space.walk, int(space.walk.virtual[row])
            return Finding(
                subjects.pfn(pfn),
                f"a page in use: {space.name} maps it at {address:#x}",
                "in a free block",
                virtual=address,
                physical=int(walk.table[row]) + int(walk.index[row]) * case.entry_size,
                pfn=pfn,
                symbol=space.name,
                raw=int(walk.entry[row]),
            )

        seen += violations(np.count_nonzero(pfns < memmap.length), free, spell)
    return seen


def _table_of_pages(case: Case, space: AddressSpace, address: int) -> tuple[bool, int | None]:
    """Whether it can be told, and physical address of the table of 4 KiB pages for ``address``, if there is one."""
    form = case.prediction.form
    way = model_walk.translate(case.observed.kernel.memory.read, space.root, address, form)
    if isinstance(way, model_walk.Fault):
        if way.level == form.levels[-1].name:
            return True, way.table
        return (
            way.entry is not None,
            None,
        )  # else the process's own tables of the kernel's half were not captured
    return True, way.table if way.level == 1 else None


def pkmap_table(case: Case) -> Examination:
    """One page table holds all slots; it is what ``pkmap_page_table`` says, in the kernel and in every process."""
    pkmap, base = case.pkmap, case.area.base
    findings, examined = [], 0
    for space in case.address_spaces:
        known, table = _table_of_pages(case, space, base)
        examined += known
        if known and table != pkmap.page_table_physical:
            findings.append(
                Finding(
                    space.subject(base),
                    f"the table at {pkmap.page_table_physical:#x}, where pkmap_page_table leads",
                    "no table" if table is None else f"the table at {table:#x}",
                    virtual=base,
                    physical=table,
                    symbol=f"{space.name}: pkmap_page_table",
                    raw=pkmap.page_table_pointer,
                )
            )
    return violations(examined, findings, lambda found: found)


RULES = (
    Rule(
        "pagetable.tables-in-ram",
        "every page table is a lowmem page in use: _refcount above 0, not PageBuddy; only a process's ptes may be in "
        "highmem",
        "pte_alloc_one, __userpte_alloc_gfp: arch/x86/mm/pgtable.c, 6.1",
        "tables",
        LOOK_TABLE,
        check=tables_in_ram,
        about="swapper_pg_dir",
        exceptions="7.2 has no HIGHPTE",
        invariants=(29,),
        needs=("memmap",),
        locks=LOCKS,
        defers_to=("pagetable.reserved-bits", "buddy.listed"),
    ),
    Rule(
        "pagetable.tables-typed",
        "the page tables of a process carry the page type PG_table",
        "pgtable_pte_page_ctor, pgtable_pmd_page_ctor: include/linux/mm.h, 6.1",
        "tables",
        LOOK_TABLE,
        check=tables_typed,
        about="struct page",
        exceptions="the kernel's own tables, and the top level, do not",
        invariants=(29,),
        needs=("memmap", "processes"),
        locks=LOCKS,
        defers_to=("pagetable.tables-in-ram", "pagetable.reserved-bits"),
    ),
    Rule(
        "pagetable.large-pages",
        "a large page of the kernel lies in the direct map, all of it RAM and not at its start, or with PAE in the "
        "vmalloc area",
        "split_mem_range, adjust_range_page_size_mask: arch/x86/mm/init.c; HAVE_ARCH_HUGE_VMAP: arch/x86/Kconfig, 6.1",
        "large pages",
        LOOK,
        check=large_pages,
        about="swapper_pg_dir",
        exceptions="2.4 and 2.6 map the first megabytes large, and the last large page may reach beyond lowmem",
        invariants=(23,),
        locks=LOCKS,
        defers_to=(
            "pagetable.reserved-bits",
            "pagetable.presence",
            "pagetable.direct-map",
        ),
    ),
    Rule(
        "pagetable.mapped-in-use",
        "no page that a process maps lies in a free block of the buddy system",
        "zap_pte_range, tlb_remove_page: mm/memory.c, mm/mmu_gather.c, 6.1: a page is freed after its last pte",
        "leaves",
        "kvmtools memmap {pfn} and kvmtools vtop: who freed the page that this process still maps?",
        check=mapped_pages_in_use,
        about="struct page",
        exceptions="RAM mapped through /dev/mem, where the kernel lets it (without STRICT_DEVMEM)",
        invariants=(44,),
        needs=("memmap", "processes"),
        locks=("zone",),
        defers_to=("buddy.head-state", "buddy.blocks-disjoint", "buddy.listed", "pagetable.reserved-bits"),
    ),
    Rule(
        "pkmap.page-table",
        "the slots are one page table, pkmap_page_table, hooked at PKMAP_BASE in swapper_pg_dir and in every process",
        "permanent_kmaps_init: arch/x86/mm/init_32.c, 6.1",
        "address spaces",
        "kvmtools vtop {virtual}: which table the directory leads to",
        check=pkmap_table,
        about="pkmap_page_table",
        invariants=(15,),
        needs=("pkmap",),
        locks=LOCKS,
        defers_to=("pagetable.reserved-bits",),
    ),
)

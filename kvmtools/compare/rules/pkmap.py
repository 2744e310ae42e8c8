"""Rules about the slots of the persistent kmap area: the counts, and the page table behind them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvmtools.compare import places, subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.model.paging.forms import NX
from kvmtools.model.pkmap.area import legal_pair
from kvmtools.records import PAGE_SIZE, Range

HIGHMEM_C = "mm/highmem.c, 6.1 (the same from 2.4 on)"
LOOK = "kvmtools pkmap: the slot beside its neighbours and its hash entry; kvmtools vtop {virtual}"
ACCESSED_DIRTY = 0x60
FLAGS = NX | (PAGE_SIZE - 1)
"""The bits of a PTE that are no address; those that no address may have are pagetable.reserved-bits'
business.
"""


def _count_fields(case: Case, slot: int) -> dict[str, Any]:
    """Where ``pkmap_count[slot]`` lies."""
    counts = case.pkmap.counts
    address = case.address("pkmap_count") + counts.itemsize * int(slot)
    return {
        "physical": case.physical(address),
        "symbol": f"pkmap_count[{int(slot)}]",
        "raw": places.unsigned(int(counts[slot]), counts.itemsize),
        "physical_is": "count at physical",
    }


def count_not_negative(case: Case) -> Examination:
    """No slot was unmapped more often than mapped."""
    counts = case.pkmap.counts

    def spell(slot: int) -> Finding:
        return places.of_slot(case, slot, "0 or more", str(counts[slot]), **_count_fields(case, slot))

    return violations(len(counts), np.flatnonzero(counts < 0), spell)


def pte_matches_count(case: Case) -> Examination:
    """A PTE stands exactly where something is counted."""
    counts, ptes = case.pkmap.counts, case.pkmap.ptes
    # What is not counted must be gone altogether, what is counted must be there for the processor.
    there = np.where(counts == 0, ptes != 0, case.present_slots)
    wrong = [
        slot
        for slot, (count, mapped) in enumerate(zip(counts.tolist(), there.tolist(), strict=True))
        if count >= 0 and not legal_pair(count, mapped)
    ]

    def spell(slot: int) -> Finding:
        count, pte = int(counts[slot]), int(ptes[slot])
        state = "empty" if not pte else f"{pte:#x}"
        expected = "an empty PTE" if count == 0 else "a present PTE"
        return places.of_slot(
            case,
            slot,
            f"{expected} (pkmap_count is {count})",
            f"PTE {state}",
            symbol=f"pkmap_count[{slot}]",
        )

    return violations(np.count_nonzero(counts >= 0), wrong, spell)


def pte_flags(case: Case) -> Examination:
    """Every PTE carries ``kmap_prot``."""
    mapped = case.mapped_slots
    flags = case.pkmap.ptes & np.uint64(FLAGS)
    expected = case.area.protection
    wrong = ((flags[mapped] ^ np.uint64(expected)) & np.uint64(FLAGS & ~ACCESSED_DIRTY)) != 0

    def spell(slot: int) -> Finding:
        return places.of_slot(
            case,
            slot,
            f"flags {expected:#x} (kmap_prot), A and D aside",
            f"flags {int(flags[slot]):#x}",
            touches=(subjects.virtual(case.area.address_of(slot)),),
        )

    return violations(len(mapped), mapped[wrong], spell)


def pte_in_highmem(case: Case) -> Examination:
    """kmap() puts only highmem pages here: lowmem has addresses of its own."""
    mapped, pfns = case.mapped_slots, case.pkmap_pfns
    highmem = case.predicted.highmem or Range(0, 0)
    start, end = highmem.start, highmem.end
    wrong = mapped[(pfns[mapped] < start) | (pfns[mapped] >= end)]

    def spell(slot: int) -> Finding:
        pfn = int(pfns[slot])
        return places.of_slot(case, slot, f"a pfn in [{start:#x}, {end:#x})", f"pfn {pfn:#x}", pfn=pfn)

    return violations(len(mapped), wrong, spell)


def pages_distinct(case: Case) -> Examination:
    """kmap() of a mapped page counts its slot up instead of taking another."""
    mapped, pfns = case.mapped_slots, case.pkmap_pfns
    order = mapped[np.argsort(pfns[mapped], kind="stable")]
    twice = np.flatnonzero(pfns[order[1:]] == pfns[order[:-1]]) + 1

    def spell(row: int) -> Finding:
        first, second = int(order[row - 1]), int(order[row])
        pfn = int(pfns[second])
        return places.of_slot(
            case,
            second,
            "a page that no other slot maps",
            f"pfn {pfn:#x}, which slot {first} maps, too",
            pfn=pfn,
            touches=(subjects.slot(first),),
        )

    return violations(len(mapped), twice, spell)


RULES = (
    Rule(
        "pkmap.count-not-negative",
        "no pkmap_count is negative",
        f"kmap_high, kunmap_high: {HIGHMEM_C}",
        "slots",
        LOOK,
        check=count_not_negative,
        about="pkmap_count",
        invariants=(1,),
        needs=("pkmap",),
    ),
    Rule(
        "pkmap.pte-matches-count",
        "a slot's PTE is empty exactly if its pkmap_count is 0",
        f"map_new_virtual, flush_all_zero_pkmaps: {HIGHMEM_C}",
        "slots",
        LOOK,
        check=pte_matches_count,
        about="pkmap_count",
        exceptions="inside kmap_lock: the PTE is set before the count, the count cleared before the PTE",
        invariants=(2,),
        needs=("pkmap",),
        locks=("kmap_lock",),
    ),
    Rule(
        "pkmap.pte-flags",
        "a mapped slot's PTE has the flags of kmap_prot, PAGE_KERNEL, but for accessed and dirty",
        f"map_new_virtual: {HIGHMEM_C}; __PAGE_KERNEL: arch/x86/include/asm/pgtable_types.h; SDM 3A tables "
        "4-6, 4-11",
        "slots in use",
        LOOK,
        check=pte_flags,
        about="pkmap_page_table",
        invariants=(3,),
        needs=("pkmap",),
        locks=("kmap_lock",),
    ),
    Rule(
        "pkmap.pte-in-highmem",
        "a mapped slot leads to a highmem page: highstart_pfn <= pfn < highend_pfn",
        "kmap: include/linux/highmem-internal.h, 6.1 (a lowmem page never gets a slot)",
        "slots in use",
        LOOK,
        check=pte_in_highmem,
        about="pkmap_page_table",
        invariants=(4,),
        needs=("pkmap",),
        locks=("kmap_lock",),
        defers_to=("pagetable.reserved-bits",),
    ),
    Rule(
        "pkmap.pages-distinct",
        "no two slots map the same page",
        f"kmap_high: {HIGHMEM_C}",
        "slots in use",
        LOOK,
        check=pages_distinct,
        about="pkmap_page_table",
        invariants=(5,),
        needs=("pkmap",),
        locks=("kmap_lock",),
        defers_to=("pkmap.pte-in-highmem",),
    ),
)

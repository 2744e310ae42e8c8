"""Rules about the use of pkmap: the cursor, the tasks that wait for a slot, the pages that are mapped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare import places, subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.compare.rules.pkmap import HIGHMEM_C
from kvmtools.findings import Finding
from kvmtools.model.pkmap.area import user_count
from kvmtools.observe.pages.memmap import TAIL


def cursor_in_range(case: Case) -> Examination:
    """``last_pkmap_nr`` is masked whenever it moves."""
    pkmap = case.pkmap
    slots = len(pkmap.counts)
    finding = Finding(
        "cursor", f"0 to {slots - 1}", str(pkmap.cursor), symbol="last_pkmap_nr", raw=pkmap.cursor
    )
    return violations(1, [] if 0 <= pkmap.cursor < slots else [finding], lambda found: found)


def waiters_have_cause(case: Case) -> Examination:
    """Nobody sleeps in kmap() for long while a slot can be had."""
    pkmap = case.pkmap
    if not pkmap.waiters:
        return Examination(1)
    free = np.flatnonzero(pkmap.counts <= 1)
    names = ", ".join(map(str, free[:8].tolist())) + (" …" if len(free) > 8 else "")
    finding = Finding(
        "pkmap wait queue",
        "every slot in use (pkmap_count 2 or more) while a task waits for one",
        f"a task waits, and {len(free)} slots are free or can be flushed: {names}",
        symbol="pkmap_map_wait",
    )
    return violations(1, [finding] if len(free) else [], lambda found: found)


def _compound_heads(case: Case, pfns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pages that hold the references: of a tail page its head, if it leads to one."""
    memmap = case.memmap
    links = memmap.lru_next[pfns]
    heads = memmap.page_to_pfn(links - TAIL)
    return np.where(((links & TAIL) != 0) & (heads >= 0), heads, pfns)


def mapped_page_in_use(case: Case) -> Examination:
    """Who keeps a page mapped keeps it allocated."""
    memmap, pkmap, pfns = case.memmap, case.pkmap, case.pkmap_pfns
    users = np.array([user_count(count) for count in pkmap.counts.tolist()])
    slots = case.mapped_slots
    slots = slots[(users[slots] > 0) & (pfns[slots] < memmap.length)]
    in_block = np.zeros(len(pkmap.counts), np.bool_)
    in_block[slots] = case.free_blocks.hold(pfns[slots])
    free = in_block[slots] | (memmap.refcount[_compound_heads(case, pfns[slots])] <= 0)

    def spell(slot: int) -> Finding:
        pfn = int(pfns[slot])
        state = "in a free block" if in_block[slot] else f"with _refcount {memmap.refcount[pfn]}"
        return places.of_slot(
            case,
            slot,
            f"a page in use: {users[slot]} users of the slot hold it",
            f"pfn {pfn:#x} {state}",
            pfn=pfn,
            touches=(subjects.pfn(pfn),),
        )

    return violations(len(slots), slots[free], spell)


RULES = (
    Rule(
        "pkmap.cursor-in-range",
        "last_pkmap_nr, the slot that was tried last, lies in 0 .. LAST_PKMAP-1",
        f"get_next_pkmap_nr: {HIGHMEM_C}",
        "words",
        "kvmtools pkmap: the cursor in the picture; a write through a wrong pointer next to pkmap_count?",
        check=cursor_in_range,
        about="kmap_high",
        invariants=(12,),
        needs=("pkmap",),
    ),
    Rule(
        "pkmap.waiters",
        "while a task sleeps in kmap() for want of a slot, no slot stays free",
        f"map_new_virtual, kunmap_high: {HIGHMEM_C}",
        "wait queues",
        "kvmtools pkmap, then the stacks of tasks in state D: a lost wake-up hangs them in map_new_virtual",
        check=waiters_have_cause,
        about="kmap_high",
        exceptions="from the kunmap() that frees a slot until the waiter runs",
        invariants=(13,),
        needs=("pkmap",),
        locks=("kmap_lock",),
        defers_to=("pkmap.count-not-negative", "pkmap.pte-matches-count"),
    ),
    Rule(
        "pkmap.mapped-page-in-use",
        "a page whose slot has users (pkmap_count 2 or more) is not free",
        "kmap's contract, Documentation/mm/highmem.rst, 6.1: the caller holds a reference",
        "slots in use",
        "kvmtools memmap {pfn} and kvmtools pkmap: who freed the page without kunmap()?",
        check=mapped_page_in_use,
        about="struct page",
        exceptions="a slot with pkmap_count 1 has no user, and its page may be free or another's",
        invariants=(14,),
        needs=("pkmap", "memmap"),
        locks=("kmap_lock",),
        defers_to=("pkmap.pte-in-highmem", "pkmap.pages-distinct", "pkmap.slot-hashed"),
    ),
)

"""Rules about the slots of the persistent kmap area: the counts, the page table behind them, the cursor, the waiters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare import subjects
from kvmtools.compare.evidence import Evidence
from kvmtools.compare.finding import Finding
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.model.pkmap import NX
from kvmtools.observe.memmap import TAIL
from kvmtools.records import PAGE_SIZE

HIGHMEM_C = "mm/highmem.c, 6.1 (the same from 2.4 on)"
LOOK = "kvmtools pkmap: the slot beside its neighbours and its hash entry; kvmtools vtop {virtual}"
PRESENT = 1
ACCESSED_DIRTY = 0x60
FLAGS = NX | (PAGE_SIZE - 1)
"""The bits of a PTE that are no address; those that no address may have are pagetable.reserved-bits' business."""
USED_BY_ONE = 2
"""``pkmap_count`` of a slot with one user: the mapping itself counts one."""


def _finding(evidence: Evidence, slot: int, expected: str, observed: str, **more: Any) -> Finding:
    """A finding about a slot; ``raw`` is its PTE unless given."""
    pkmap, slot = evidence.pkmap, int(slot)
    fields = {
        "virtual": evidence.area.address_of(slot),
        "physical": pkmap.page_table_physical + slot * evidence.entry_size,
        "symbol": f"pkmap_page_table[{slot}]",
        "raw": int(pkmap.ptes[slot]),
    }
    return Finding(subjects.slot(slot), expected, observed, **{**fields, **more})


def _count_fields(evidence: Evidence, slot: int) -> dict[str, Any]:
    """Where ``pkmap_count[slot]`` lies."""
    address = evidence.address("pkmap_count") + 4 * int(slot)
    return {
        "physical": evidence.physical(address),
        "symbol": f"pkmap_count[{int(slot)}]",
        "raw": int(evidence.pkmap.counts[slot]) % (1 << 32),
    }


def _present(evidence: Evidence) -> NDArray[np.bool_]:
    return (evidence.pkmap.ptes & np.uint64(PRESENT)) != 0


def _mapped(evidence: Evidence) -> NDArray[np.intp]:
    """Slots that are counted and mapped: those whose PTE can be judged."""
    return np.flatnonzero((evidence.pkmap.counts >= 1) & _present(evidence))


def count_not_negative(evidence: Evidence) -> Examination:
    """No slot was unmapped more often than mapped."""
    counts = evidence.pkmap.counts

    def spell(slot: int) -> Finding:
        return _finding(evidence, slot, "0 or more", str(counts[slot]), **_count_fields(evidence, slot))

    return violations(len(counts), np.flatnonzero(counts < 0), spell)


def pte_matches_count(evidence: Evidence) -> Examination:
    """A PTE stands exactly where something is counted."""
    counts, ptes = evidence.pkmap.counts, evidence.pkmap.ptes
    wrong = ((counts == 0) & (ptes != 0)) | ((counts >= 1) & ~_present(evidence))

    def spell(slot: int) -> Finding:
        count, pte = int(counts[slot]), int(ptes[slot])
        state = "empty" if not pte else f"{pte:#x}"
        expected = "an empty PTE" if count == 0 else "a present PTE"
        return _finding(
            evidence,
            slot,
            f"{expected} (pkmap_count is {count})",
            f"PTE {state}",
            symbol=f"pkmap_count[{slot}]",
        )

    return violations(np.count_nonzero(counts >= 0), np.flatnonzero(wrong), spell)


def pte_flags(evidence: Evidence) -> Examination:
    """Every PTE carries ``kmap_prot``."""
    mapped = _mapped(evidence)
    flags = evidence.pkmap.ptes & np.uint64(FLAGS)
    expected = evidence.area.protection
    wrong = ((flags[mapped] ^ np.uint64(expected)) & np.uint64(FLAGS & ~ACCESSED_DIRTY)) != 0

    def spell(slot: int) -> Finding:
        return _finding(
            evidence,
            slot,
            f"flags {expected:#x} (kmap_prot), A and D aside",
            f"flags {int(flags[slot]):#x}",
            touches=(subjects.virtual(evidence.area.address_of(slot)),),
        )

    return violations(len(mapped), mapped[wrong], spell)


def pte_in_highmem(evidence: Evidence) -> Examination:
    """kmap() puts only highmem pages here: lowmem has addresses of its own."""
    mapped, pfns = _mapped(evidence), evidence.pkmap_pfns
    start, end = evidence.predicted.highstart_pfn or 0, evidence.predicted.highend_pfn or 0
    wrong = mapped[(pfns[mapped] < start) | (pfns[mapped] >= end)]

    def spell(slot: int) -> Finding:
        pfn = int(pfns[slot])
        return _finding(evidence, slot, f"a pfn in [{start:#x}, {end:#x})", f"pfn {pfn:#x}", pfn=pfn)

    return violations(len(mapped), wrong, spell)


def pages_distinct(evidence: Evidence) -> Examination:
    """kmap() of a mapped page counts its slot up instead of taking another."""
    mapped, pfns = _mapped(evidence), evidence.pkmap_pfns
    order = mapped[np.argsort(pfns[mapped], kind="stable")]
    twice = np.flatnonzero(pfns[order[1:]] == pfns[order[:-1]]) + 1

    def spell(row: int) -> Finding:
        first, second = int(order[row - 1]), int(order[row])
        pfn = int(pfns[second])
        return _finding(
            evidence,
            second,
            "a page that no other slot maps",
            f"pfn {pfn:#x}, which slot {first} maps, too",
            pfn=pfn,
            touches=(subjects.slot(first),),
        )

    return violations(len(mapped), twice, spell)


def cursor_in_range(evidence: Evidence) -> Examination:
    """``last_pkmap_nr`` is masked whenever it moves."""
    pkmap = evidence.pkmap
    slots = len(pkmap.counts)
    finding = Finding(
        "cursor", f"0 to {slots - 1}", str(pkmap.cursor), symbol="last_pkmap_nr", raw=pkmap.cursor
    )
    return violations(1, [] if 0 <= pkmap.cursor < slots else [finding], lambda found: found)


def waiters_have_cause(evidence: Evidence) -> Examination:
    """Nobody sleeps in kmap() for long while a slot can be had."""
    pkmap = evidence.pkmap
    if pkmap.waiters is None:
        return Examination(0, skipped="this kernel's wait queue of kmap() was not found among its symbols")
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


def _compound_heads(evidence: Evidence, pfns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pages that hold the references: of a tail page its head, if it leads to one."""
    memmap = evidence.memmap
    links = memmap.lru_next[pfns]
    heads = memmap.page_to_pfn(links - np.uint32(TAIL))
    return np.where(((links & np.uint32(TAIL)) != 0) & (heads >= 0), heads, pfns)


def mapped_page_in_use(evidence: Evidence) -> Examination:
    """Who keeps a page mapped keeps it allocated."""
    memmap, pkmap, pfns = evidence.memmap, evidence.pkmap, evidence.pkmap_pfns
    slots = _mapped(evidence)
    slots = slots[(pkmap.counts[slots] >= USED_BY_ONE) & (pfns[slots] < memmap.length)]
    in_block = np.zeros(len(pkmap.counts), np.bool_)
    in_block[slots] = evidence.free_blocks.hold(pfns[slots])
    free = in_block[slots] | (memmap.refcount[_compound_heads(evidence, pfns[slots])] <= 0)
    users = pkmap.counts - 1

    def spell(slot: int) -> Finding:
        pfn = int(pfns[slot])
        state = "in a free block" if in_block[slot] else f"with _refcount {memmap.refcount[pfn]}"
        return _finding(
            evidence,
            slot,
            f"a page in use: {users[slot]} users of the slot hold it",
            f"pfn {pfn:#x} {state}",
            pfn=pfn,
            touches=(subjects.pfn(pfn),),
        )

    return violations(len(slots), slots[free], spell)


RULES = (
    Rule(
        "pkmap.count-not-negative",
        "no pkmap_count is negative",
        f"kmap_high, kunmap_high: {HIGHMEM_C}",
        count_not_negative,
        "slots",
        LOOK,
        invariants=(1,),
        needs=("pkmap",),
    ),
    Rule(
        "pkmap.pte-matches-count",
        "a slot's PTE is empty exactly if its pkmap_count is 0",
        f"map_new_virtual, flush_all_zero_pkmaps: {HIGHMEM_C}",
        pte_matches_count,
        "slots",
        LOOK,
        exceptions="inside kmap_lock: the PTE is set before the count, the count cleared before the PTE",
        invariants=(2,),
        needs=("pkmap",),
        locks=("kmap_lock",),
    ),
    Rule(
        "pkmap.pte-flags",
        "a mapped slot's PTE has the flags of kmap_prot, PAGE_KERNEL, but for accessed and dirty",
        f"map_new_virtual: {HIGHMEM_C}; __PAGE_KERNEL: arch/x86/include/asm/pgtable_types.h; SDM 3A tables 4-6, 4-11",
        pte_flags,
        "PTEs",
        LOOK,
        invariants=(3,),
        needs=("pkmap",),
        locks=("kmap_lock",),
    ),
    Rule(
        "pkmap.pte-in-highmem",
        "a mapped slot leads to a highmem page: highstart_pfn <= pfn < highend_pfn",
        "kmap: include/linux/highmem-internal.h, 6.1 (a lowmem page never gets a slot)",
        pte_in_highmem,
        "PTEs",
        LOOK,
        invariants=(4,),
        needs=("pkmap",),
        locks=("kmap_lock",),
        defers_to=("pagetable.reserved-bits",),
    ),
    Rule(
        "pkmap.pages-distinct",
        "no two slots map the same page",
        f"kmap_high: {HIGHMEM_C}",
        pages_distinct,
        "PTEs",
        LOOK,
        invariants=(5,),
        needs=("pkmap",),
        locks=("kmap_lock",),
        defers_to=("pkmap.pte-in-highmem",),
    ),
    Rule(
        "pkmap.cursor-in-range",
        "last_pkmap_nr, the slot that was tried last, lies in 0 .. LAST_PKMAP-1",
        f"get_next_pkmap_nr: {HIGHMEM_C}",
        cursor_in_range,
        "words",
        "kvmtools pkmap: the cursor in the picture; a write through a wrong pointer next to pkmap_count?",
        invariants=(12,),
        needs=("pkmap",),
    ),
    Rule(
        "pkmap.waiters",
        "while a task sleeps in kmap() for want of a slot, no slot stays free",
        f"map_new_virtual, kunmap_high: {HIGHMEM_C}",
        waiters_have_cause,
        "wait queues",
        "kvmtools pkmap, then the stacks of tasks in state D: a lost wake-up hangs them in map_new_virtual",
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
        mapped_page_in_use,
        "slots in use",
        "kvmtools memmap {pfn} and kvmtools pkmap: who freed the page without kunmap()?",
        exceptions="a slot with pkmap_count 1 has no user, and its page may be free or another's",
        invariants=(14,),
        needs=("pkmap", "memmap"),
        locks=("kmap_lock",),
        defers_to=("pkmap.pte-in-highmem", "pkmap.pages-distinct", "pkmap.slot-hashed"),
    ),
)

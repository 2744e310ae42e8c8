"""Rules about the page-address bookkeeping of 2.6 and 2.4 kernels.

Both structures are recognised by their symbols and members, never by a version; on every kernel since 5.10 the rules
are skipped and say why.
"""

from __future__ import annotations

import numpy as np

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.errors import MemoryFault
from kvmtools.findings import Finding
from kvmtools.records import PAGE_SHIFT


def pool_complete(case: Case) -> Examination:
    """Every entry is either in the pool or in the hash."""
    head = case.address("page_address_pool")
    link = case.vmlinux.offset("struct page_address_map", "list")
    limit = len(case.pkmap.counts)
    pool: list[int] = []
    try:
        node = case.word(head)
        while node != head and len(pool) <= limit:
            pool.append(node - link)
            node = case.word(node)
    except MemoryFault as fault:
        return Examination(0, skipped=f"page_address_pool could not be followed: {fault}")
    hashed = [entry.address for entry in case.hash_entries]
    findings = [
        Finding(
            f"page_address_map at {address:#x}",
            "in the pool or in the hash",
            "in both",
            virtual=address,
            symbol="page_address_pool",
        )
        for address in sorted(set(pool) & set(hashed))
    ]
    total = len(pool) + len(hashed)
    if total != limit:
        text = f"{len(pool)} in the pool and {len(hashed)} in the hash"
        findings.append(Finding("page_address_pool", f"{limit} entries in all", text, virtual=head))
    return violations(limit, findings, lambda found: found)


def page_virtual(case: Case) -> Examination:
    """``page->virtual`` is the page's own address in lowmem, its slot's in highmem, or NULL."""
    memmap = case.memmap
    virtual = memmap.word_at(case.vmlinux.offset("struct page", "virtual"))
    expected = np.zeros(memmap.length, virtual.dtype)
    lowmem = min(case.predicted.max_low_pfn, memmap.length)
    expected[:lowmem] = case.page_offset + (np.arange(lowmem, dtype=virtual.dtype) << PAGE_SHIFT)
    for slot in np.flatnonzero(case.pkmap.counts >= 1).tolist():
        pfn = int(case.pkmap_pfns[slot])
        if lowmem <= pfn < memmap.length:
            expected[pfn] = case.area.address_of(slot)

    def spell(pfn: int) -> Finding:
        return Finding(
            subjects.pfn(pfn),
            f"page->virtual {expected[pfn]:#x}",
            f"page->virtual {virtual[pfn]:#x}",
            pfn=int(pfn),
            symbol=f"mem_map[{int(pfn):#x}].virtual",
            raw=int(virtual[pfn]),
        )

    return violations(memmap.length, np.flatnonzero(virtual != expected), spell)


RULES = (
    Rule(
        "pkmap.pool-complete",
        "every struct page_address_map is either in page_address_pool or in the hash, never in both",
        "set_page_address: mm/highmem.c, 2.6.18, 2.6.32",
        "entries",
        "kvmtools pkmap: an entry lost between pool and hash",
        check=pool_complete,
        exceptions="inside set_page_address one entry is in neither",
        invariants=(10,),
        needs=("pkmap", "page-address-hash", "page-address-pool"),
        locks=("kmap_lock", "pool_lock"),
        defers_to=("pkmap.hash-lists",),
    ),
    Rule(
        "pkmap.page-virtual",
        "page->virtual is __va(pfn) for a lowmem page, the slot's address for a mapped highmem page, else NULL",
        "set_page_address: include/linux/mm.h, mm/highmem.c, 2.4",
        "pages",
        "kvmtools memmap {pfn}",
        check=page_virtual,
        invariants=(11,),
        needs=("pkmap", "memmap", "page-virtual"),
        locks=("kmap_lock",),
        defers_to=("pkmap.pte-matches-count",),
    ),
)

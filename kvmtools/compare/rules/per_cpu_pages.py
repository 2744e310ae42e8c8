"""Rules about the free pages that each CPU keeps to itself."""

from __future__ import annotations

import numpy as np

from kvmtools.compare import places, subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.observe.zones.per_cpu_pages import PerCpuPages
from kvmtools.observe.zones.zones import Zone

SOURCE = "free_unref_page_commit, __rmqueue_pcplist, free_pcppages_bulk: mm/page_alloc.c, 6.1"
LOOK = "kvmtools zones: the lists of each CPU; kvmtools memmap {pfn}"
LOCKS = ("pcp", "zone")


def _pagesets(case: Case) -> list[tuple[Zone, PerCpuPages]]:
    return [(zone, pageset) for zone in case.populated_zones for pageset in zone.pcp]


def lists_sound(case: Case) -> Examination:
    """Every list is circular and doubly linked."""
    pagesets = _pagesets(case)
    findings = [
        Finding(
            subjects.pcp(zone.place.title, pageset.cpu),
            "circular lists whose prev links are the inverse of their next links",
            f"list {number}: {each.broken}",
            symbol=f"{zone.place.title}, cpu {pageset.cpu}: per_cpu_pageset->lists[{number}]",
        )
        for zone, pageset in pagesets
        for number, each in enumerate(pageset.lists)
        if each.broken is not None
    ]
    return violations(sum(len(pageset.lists) for _, pageset in pagesets), findings, lambda found: found)


def pages_free(case: Case) -> Examination:
    """What lies on a list is unused, of the list's zone, and in no free block."""
    memmap, seen = case.memmap, Examination(0)
    for zone, pageset in _pagesets(case):
        for each in pageset.lists:
            pfns = each.pages
            good = (
                (memmap.refcount[pfns] == 0) & ~memmap.buddy[pfns] & (memmap.zone[pfns] == zone.place.index)
            )
            if memmap.node is not None:
                good &= memmap.node[pfns] == zone.place.node

            def spell(pfn: int, zone: Zone = zone, pageset: PerCpuPages = pageset) -> Finding:
                buddy = "PageBuddy" if memmap.buddy[pfn] else "not PageBuddy"
                where = subjects.pcp(zone.place.title, pageset.cpu)
                return places.of_page(
                    memmap,
                    pfn,
                    "_refcount",
                    f"_refcount 0, not PageBuddy, {zone.place.title}: it is on a list of {where}",
                    f"_refcount {memmap.refcount[pfn]}, {buddy}, {case.zone_title(*case.zone_of(pfn))}",
                )

            seen += violations(len(pfns), pfns[np.flatnonzero(~good)], spell)
    return seen


def count(case: Case) -> Examination:
    """``pcp->count`` is what the lists hold, in pages."""

    def spell(row: tuple[Zone, PerCpuPages]) -> Finding:
        zone, pageset = row
        return Finding(
            subjects.pcp(zone.place.title, pageset.cpu),
            f"count {pageset.pages}: so many pages are on the lists",
            f"count {pageset.count}",
            symbol=f"{zone.place.title}, cpu {pageset.cpu}: per_cpu_pageset->count",
            raw=places.unsigned(pageset.count, case.vmlinux.sizeof("struct per_cpu_pages", "count")),
            persists_as=f"off by {pageset.count - pageset.pages}",
        )

    pagesets = _pagesets(case)
    return violations(len(pagesets), [row for row in pagesets if row[1].count != row[1].pages], spell)


RULES = (
    Rule(
        "pcp.lists-sound",
        "every per-CPU page list is circular and doubly linked through page->pcp_list",
        f"struct per_cpu_pages: include/linux/mmzone.h; {SOURCE}",
        "lists",
        LOOK,
        check=lists_sound,
        about="struct per_cpu_pages",
        exceptions="inside pcp->lock",
        invariants=(37,),
        needs=("zones",),
        locks=LOCKS,
    ),
    Rule(
        "pcp.pages-free",
        "a page on a per-CPU list has _refcount 0, is not PageBuddy, and belongs to the list's zone",
        SOURCE,
        "pages",
        LOOK,
        check=pages_free,
        about="struct per_cpu_pages",
        exceptions="inside pcp->lock and zone->lock, while pages move between the lists and the buddy system",
        invariants=(37,),
        needs=("memmap", "zones"),
        locks=LOCKS,
        defers_to=("memmap.zone", "memmap.section", "memmap.node", "buddy.listed"),
    ),
    Rule(
        "pcp.count",
        "pcp->count is the number of pages on the CPU's lists, a block of order n being 1 << n of them",
        SOURCE,
        "page sets",
        LOOK,
        check=count,
        about="struct per_cpu_pages",
        exceptions="inside pcp->lock",
        invariants=(37,),
        needs=("zones",),
        locks=LOCKS,
        defers_to=("pcp.lists-sound",),
    ),
)

"""Rules about the fields of ``struct page`` that are fixed at boot."""

from __future__ import annotations

import numpy as np

from kvmtools.compare import places
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.model.pages.memmap import pages_per_section

LOOK = "kvmtools memmap {pfn}: the page in full; for the zone's borders, kvmtools zones"


def zone_of_page(case: Case) -> Examination:
    """``flags`` carry the number of the zone whose span holds the pfn."""
    memmap, seen = case.memmap, Examination(0)
    valid = memmap.valid
    for span in case.prediction.memmap.zones:
        rows = slice(span.start, min(span.end, memmap.length))
        wrong = np.flatnonzero((memmap.zone[rows] != span.zone) & valid[rows]) + span.start

        def spell(number: int, expected: str = case.zone_title(span.node, span.zone)) -> Finding:
            observed = case.zone_title(*case.zone_of(number))
            return places.of_page(memmap, number, "flags", expected, observed)

        seen += violations(np.count_nonzero(valid[rows]), wrong, spell)
    return seen


def section_of_page(case: Case) -> Examination:
    """``flags`` carry the number of the section that holds the pfn (SPARSEMEM)."""
    memmap = case.memmap
    section = memmap.section
    if section is None:
        return Examination(0, skipped="FLATMEM: page->flags hold no section")
    valid = memmap.valid
    wanted = np.arange(memmap.length) // pages_per_section(case.prediction.configuration)
    wrong = np.flatnonzero((section != wanted) & valid)

    def spell(number: int) -> Finding:
        expected, observed = f"section {wanted[number]}", f"section {section[number]}"
        return places.of_page(memmap, number, "flags", expected, observed)

    return violations(np.count_nonzero(valid), wrong, spell)


def node_of_page(case: Case) -> Examination:
    """``flags``, or the table of the sections' nodes, carry the number of the node that has the pfn."""
    memmap, seen = case.memmap, Examination(0)
    nodes, valid = memmap.node, memmap.valid
    if nodes is None:
        return Examination(0, skipped="this kernel has one node, and no page says so")
    for span in case.prediction.memmap.zones:
        rows = slice(span.start, min(span.end, memmap.length))
        wrong = np.flatnonzero((nodes[rows] != span.node) & valid[rows]) + span.start

        def spell(number: int, expected: int = span.node) -> Finding:
            return places.of_page(memmap, number, "flags", f"node {expected}", f"node {nodes[number]}")

        seen += violations(np.count_nonzero(valid[rows]), wrong, spell)
    return seen


def holes_reserved(case: Case) -> Examination:
    """What is not RAM has a ``struct page`` that nobody can take."""
    memmap, seen = case.memmap, Examination(0)
    reserved, valid = memmap.has_flag("PG_reserved"), memmap.valid
    fields = case.prediction.memmap.hole
    for hole in case.prediction.memmap.zones:
        if hole.ram:
            continue
        rows = slice(hole.start, min(hole.end, memmap.length))
        good = (memmap.refcount[rows] == fields.refcount) & (memmap.mapcount[rows] == fields.mapcount)
        if fields.flags:
            good &= reserved[rows]

        def spell(number: int) -> Finding:
            flag = "" if reserved[number] else "not "
            refcount, mapcount = int(memmap.refcount[number]), int(memmap.mapcount[number])
            broken = {
                "flags": bool(fields.flags) and not reserved[number],
                "_refcount": refcount != fields.refcount,
                "_mapcount": True,
            }
            wanted = "PG_reserved" if fields.flags else "PG_reserved or not"
            return places.of_page(
                memmap,
                number,
                next(member for member, wrong in broken.items() if wrong),
                f"{wanted}, _refcount {fields.refcount}, _mapcount {fields.mapcount}",
                f"{flag}PG_reserved, _refcount {refcount}, _mapcount {mapcount}",
            )

        bad = np.flatnonzero(~good & valid[rows]) + hole.start
        seen += violations(np.count_nonzero(valid[rows]), bad, spell)
    return seen


def image_reserved(case: Case) -> Examination:
    """Nobody can take a page of the kernel's text, rodata or data."""
    memmap, image = case.memmap, case.prediction.memmap.image
    if not len(image):
        return Examination(0, skipped="where the image lies is not known: it has no _text or no __init_begin")
    reserved, rows = memmap.has_flag("PG_reserved"), slice(image.start, min(image.end, memmap.length))
    wrong = np.flatnonzero(~reserved[rows] | (memmap.refcount[rows] < 1)) + image.start

    def spell(number: int) -> Finding:
        flag = "" if reserved[number] else "not "
        return places.of_page(
            memmap,
            number,
            "_refcount" if reserved[number] else "flags",
            "PG_reserved, _refcount 1 or more: a page of the kernel's image",
            f"{flag}PG_reserved, _refcount {memmap.refcount[number]}",
        )

    return violations(len(reserved[rows]), wrong, spell)


def refcount_not_negative(case: Case) -> Examination:
    """No page was put more often than it was taken."""
    memmap, valid = case.memmap, case.memmap.valid

    def spell(number: int) -> Finding:
        return places.of_page(memmap, number, "_refcount", "0 or more", str(memmap.refcount[number]))

    return violations(np.count_nonzero(valid), np.flatnonzero((memmap.refcount < 0) & valid), spell)


RULES = (
    Rule(
        "memmap.zone",
        "every struct page carries in its flags the zone whose span holds its pfn; a hole carries the zone of what "
        "follows it, the last hole that of the last zone",
        "page_zonenum, set_page_zone (include/linux/mm.h), init_unavailable_range (mm/page_alloc.c), 6.1",
        "pages",
        LOOK,
        check=zone_of_page,
        about="struct page",
        exceptions="pfns at or above max_mapnr are not looked at: FLATMEM leaves their pages uninitialised up to 6.12; "
        "that of 5.10 leaves holes zero, which is the lowest zone",
        invariants=(30,),
        needs=("memmap",),
    ),
    Rule(
        "memmap.section",
        "every struct page carries in its flags the number of the section that holds its pfn",
        "set_page_section (include/linux/mm.h), 6.1",
        "pages",
        LOOK,
        check=section_of_page,
        about="struct page",
        exceptions="FLATMEM has no sections",
        invariants=(30,),
        needs=("memmap",),
    ),
    Rule(
        "memmap.node",
        "every struct page carries in its flags, or where they have no room by its section, the number of the node "
        "that has its pfn; a hole that of the node that follows it",
        "set_page_node, page_to_nid (include/linux/mm.h), set_section_nid (mm/sparse.c), 6.1",
        "pages",
        LOOK,
        check=node_of_page,
        about="struct page",
        exceptions="kernels without NUMA",
        invariants=(30,),
        needs=("memmap",),
    ),
    Rule(
        "memmap.holes-reserved",
        "every pfn that is not RAM has a struct page that is PG_reserved, with _refcount 1 and _mapcount -1",
        "init_unavailable_range, __init_single_page (mm/page_alloc.c), 6.1",
        "pages",
        "kvmtools memmap {pfn}: the page in full; for the RAM map, /proc/iomem in the guest",
        check=holes_reserved,
        about="struct page",
        exceptions="pfns at or above max_mapnr; FLATMEM of 5.10 leaves holes zero and reserves only some",
        invariants=(33,),
        needs=("memmap",),
    ),
    Rule(
        "memmap.image-reserved",
        "every page of the kernel's image from _text to __init_begin is PG_reserved and has a _refcount of 1 at least",
        "setup_arch: arch/x86/kernel/setup.c; reserve_bootmem_region: mm/page_alloc.c, 6.1",
        "pages",
        "kvmtools memmap {pfn}: the page in full; kvmtools vtop {virtual}",
        check=image_reserved,
        about="struct page",
        exceptions="the vDSO's pages lie here, too, and count the processes that map them",
        invariants=(43,),
        needs=("memmap",),
    ),
    Rule(
        "memmap.refcount-not-negative",
        "no page has a _refcount below 0",
        "put_page_testzero: include/linux/mm.h; check_new_page: mm/page_alloc.c, 6.1",
        "pages",
        LOOK,
        check=refcount_not_negative,
        about="struct page",
        exceptions="pfns at or above max_mapnr",
        needs=("memmap",),
        defers_to=(
            "memmap.holes-reserved",
            "memmap.image-reserved",
            "buddy.head-state",
            "pagetable.tables-in-ram",
            "pkmap.mapped-page-in-use",
            "pcp.pages-free",
        ),
    ),
)

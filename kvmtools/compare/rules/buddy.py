"""Rules about the buddy system: the marks in ``struct page`` against the lists of ``zone->free_area``."""

from __future__ import annotations

import numpy as np

from kvmtools.compare import places, subjects
from kvmtools.compare.case import Case
from kvmtools.compare.free_blocks import pfns_of, unpack
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.model.pages.free_head import FreeHead
from kvmtools.observe.pages.page_flags import FlagLayout
from kvmtools.observe.zones.free_lists import FreeArea
from kvmtools.observe.zones.zones import Zone

LOOK = "kvmtools memmap {pfn}: the page in full; kvmtools zones: the free lists"
LOOK_ZONE = "kvmtools zones: counts and lists of every order beside /proc/buddyinfo in the guest"
LOCKS = ("zone",)
PREP = "PAGE_FLAGS_CHECK_AT_PREP: include/linux/page-flags.h, 6.1"


def head_state(case: Case) -> Examination:
    """A free block's head looks like one: unused, of a possible order, aligned, without flags."""
    memmap, free = case.memmap, case.free_blocks
    heads, orders = free.heads, free.orders
    wanted = case.prediction.free_head
    alignment = np.array(wanted.alignment)
    flags = memmap.flags[heads] & _flags_to_be_clear(memmap.layout, wanted)
    in_range = orders < len(alignment)
    aligned = heads % alignment[np.where(in_range, orders, 0)] == 0
    unused = memmap.refcount[heads] == wanted.refcount
    wrong = ~(in_range & aligned & unused & (flags == 0))

    def spell(row: int) -> Finding:
        pfn, order = int(heads[row]), int(orders[row])
        # (holds, the member to look at, expected, observed)
        fault = case.prediction.memmap.buddy_fault(pfn, order)
        tests = (
            (unused[row], "_refcount", f"_refcount {wanted.refcount}", f"_refcount {memmap.refcount[pfn]}"),
            (in_range[row] and aligned[row], "private", "an order that a block here can have", fault),
            (flags[row] == 0, "flags", "no flag set", " ".join(memmap.layout.names_of(int(flags[row])))),
        )
        _holds, member, expected, observed = next(test for test in tests if not test[0])
        return places.of_page(memmap, pfn, member, f"{expected} in the head of a free block", observed)

    return violations(len(heads), np.flatnonzero(wrong), spell)


def _flags_to_be_clear(layout: FlagLayout, wanted: FreeHead) -> int:
    """The bits, in this kernel, of the flags that the model names; a bit of several names is spared by any of them."""
    clear = layout.names if wanted.clear is None else wanted.clear
    clear_bits, spared_bits = ({layout.bit(name) for name in names} for names in (clear, wanted.spared))
    return sum(clear_bits - spared_bits)


def blocks_disjoint(case: Case) -> Examination:
    """No free block begins inside another one."""
    memmap, free = case.memmap, case.free_blocks
    reach = np.maximum.accumulate(free.ends) if len(free.heads) else free.ends
    inside = np.flatnonzero(free.heads[1:] < reach[:-1]) + 1

    def spell(row: int) -> Finding:
        pfn = int(free.heads[row])
        outer = int(np.flatnonzero(free.ends[:row] > pfn)[-1])
        around = int(free.heads[outer])
        return places.of_page(
            memmap,
            pfn,
            "_mapcount",
            f"no PageBuddy inside the free block of pfn {around:#x}, order {int(memmap.private[around])}",
            "PageBuddy",
            touches=(subjects.pfn(around),),
        )

    return violations(len(free.heads), inside, spell)


def block_in_zone(case: Case) -> Examination:
    """A free block lies in one zone."""
    memmap, free = case.memmap, case.free_blocks
    spans = sorted((span for span in case.prediction.zones if span.end_pfn), key=lambda span: span.start_pfn)
    starts = np.array([span.start_pfn for span in spans], np.int64)
    ends = np.array([span.end_pfn for span in spans], np.int64)
    at = np.clip(np.searchsorted(starts, free.heads, "right") - 1, 0, None)
    outside = (free.heads < starts[at]) | (free.ends > ends[at])

    def spell(row: int) -> Finding:
        pfn, span = int(free.heads[row]), spans[int(at[row])]
        title = case.zone_title(span.node, case.memmap.zone_names.index(span.name))
        expected = f"a block inside {title}, [{span.start_pfn:#x}, {span.end_pfn:#x})"
        fault = case.prediction.memmap.buddy_fault(pfn, int(free.orders[row]))
        return places.of_page(memmap, pfn, "private", expected, fault)

    return violations(len(free.heads), np.flatnonzero(outside), spell)


def listed(case: Case) -> Examination:
    """The pages marked PageBuddy are the pages on the free lists, each on the list of its zone and order."""
    memmap, marked, linked = case.memmap, case.marked_blocks, case.linked_blocks
    unlisted = np.setdiff1d(marked, linked)
    unmarked = np.setdiff1d(linked, marked)

    def spell(key: int, expected: str, observed: str) -> Finding:
        pfn, order, node, number = unpack(key)
        zone = case.zone_title(node, number)
        area = subjects.zone(zone, order)
        touched = (area, subjects.zone(zone))
        return places.of_page(memmap, pfn, "_mapcount", f"{expected} {area}", observed, touches=touched)

    def spell_unlisted(key: int) -> Finding:
        return spell(int(key), "on a free list of", "PageBuddy, but on no such list")

    def spell_unmarked(key: int) -> Finding:
        marked_otherwise = memmap.buddy[unpack(int(key))[0]]
        state = "PageBuddy of another zone or order" if marked_otherwise else "not PageBuddy"
        return spell(int(key), "PageBuddy: it is on a free list of", state)

    # A page that is marked for one list and is on another gets one finding, not one for each of its places.
    misplaced = np.isin(pfns_of(unmarked), pfns_of(unlisted))
    seen = violations(len(marked), unlisted, spell_unlisted)
    return seen + violations(len(linked), unmarked[~misplaced], spell_unmarked)


def _areas(case: Case) -> list[tuple[Zone, FreeArea]]:
    return [(zone, area) for zone in case.populated_zones for area in zone.free_area]


def _address(case: Case, zone: Zone, area: FreeArea) -> int:
    """Virtual address of ``zone->free_area[order]``."""
    return zone.address + case.vmlinux.offset("struct zone", f"free_area[{area.order}]")


def lists_sound(case: Case) -> Examination:
    """Every free list is circular and doubly linked."""
    broken = [
        (zone, area, each) for zone, area in _areas(case) for each in area.lists if each.broken is not None
    ]
    findings = [
        Finding(
            subjects.zone(zone.place.title, area.order),
            "a circular list whose prev links are the inverse of its next links",
            f"the {each.migratetype} list: {each.broken}",
            symbol=f"{zone.place.title}: free_area[{area.order}].free_list[MIGRATE_{each.migratetype}]",
            virtual=_address(case, zone, area),
            touches=(subjects.zone(zone.place.title),),
        )
        for zone, area, each in broken
    ]
    return violations(sum(len(area.lists) for _, area in _areas(case)), findings, lambda found: found)


def nr_free(case: Case) -> Examination:
    """``nr_free`` is the number of blocks on the lists of its order."""

    def spell(row: tuple[Zone, FreeArea]) -> Finding:
        zone, area = row
        member = f"free_area[{area.order}].nr_free"
        address = zone.address + case.vmlinux.offset("struct zone", member)
        return Finding(
            subjects.zone(zone.place.title, area.order),
            f"nr_free {area.blocks}: so many blocks are on the lists",
            f"nr_free {area.nr_free}",
            virtual=address,
            physical=case.physical(address),
            symbol=f"{zone.place.title}: {member}",
            raw=places.unsigned(area.nr_free, case.vmlinux.sizeof("struct zone", member)),
            persists_as=f"off by {area.nr_free - area.blocks}",
        )

    areas = _areas(case)
    return violations(len(areas), [row for row in areas if row[1].nr_free != row[1].blocks], spell)


def free_pages(case: Case) -> Examination:
    """``NR_FREE_PAGES`` is what the lists hold, isolated blocks aside."""

    def listed_pages(zone: Zone) -> int:
        return sum(
            len(each.pages) << each.order
            for area in zone.free_area
            for each in area.lists
            if each.migratetype != "ISOLATE"
        )

    def spell(zone: Zone) -> Finding:
        pages = listed_pages(zone)
        return Finding(
            subjects.zone(zone.place.title),
            f"NR_FREE_PAGES {pages}: so many pages are on the free lists",
            f"NR_FREE_PAGES {zone.free_pages}, the CPUs' shares included",
            virtual=zone.address,
            symbol=f"{zone.place.title}: vm_stat[NR_FREE_PAGES]",
            persists_as=f"off by {zone.free_pages - pages}",
        )

    zones = case.populated_zones
    return violations(len(zones), [zone for zone in zones if zone.free_pages != listed_pages(zone)], spell)


RULES = (
    Rule(
        "buddy.lists-sound",
        "every free list is circular and doubly linked through page->buddy_list",
        "struct free_area: include/linux/mmzone.h; include/linux/list.h, 6.1",
        "lists",
        LOOK_ZONE,
        check=lists_sound,
        about="struct free_area",
        exceptions="inside zone->lock",
        invariants=(35,),
        needs=("zones",),
        locks=LOCKS,
    ),
    Rule(
        "buddy.head-state",
        "the head of a free block (PageBuddy) has _refcount 0, an order below MAX_ORDER in private, a pfn that is a "
        "multiple of the block's size, and no flags",
        f"set_buddy_order, __free_one_page: mm/page_alloc.c; {PREP}",
        "free blocks",
        LOOK,
        check=head_state,
        about="struct page",
        exceptions="PG_hwpoison, and PG_reported, which is PG_uptodate's bit",
        invariants=(34,),
        needs=("memmap",),
        locks=LOCKS,
    ),
    Rule(
        "buddy.blocks-disjoint",
        "no page inside a free block heads a free block of its own",
        "__free_one_page, expand: mm/page_alloc.c, 6.1",
        "free blocks",
        LOOK,
        check=blocks_disjoint,
        about="struct free_area",
        invariants=(34,),
        needs=("memmap",),
        locks=LOCKS,
        defers_to=("buddy.head-state",),
    ),
    Rule(
        "buddy.block-in-zone",
        "a free block lies inside the span of one zone",
        "page_is_buddy (page_zone_id): mm/internal.h, mm/page_alloc.c, 6.1",
        "free blocks",
        LOOK,
        check=block_in_zone,
        about="struct free_area",
        invariants=(34,),
        needs=("memmap", "zones"),
        locks=LOCKS,
        defers_to=("buddy.head-state", "buddy.blocks-disjoint", "buddy.listed"),
    ),
    Rule(
        "buddy.listed",
        "the pages marked PageBuddy are exactly those on the free lists, each on a list of its own zone and order",
        "add_to_free_list, del_page_from_free_list: mm/page_alloc.c, 6.1",
        "marks and list entries",
        LOOK,
        check=listed,
        about="struct free_area",
        exceptions="inside zone->lock; guard pages of DEBUG_PAGEALLOC are marked otherwise",
        invariants=(34,),
        needs=("memmap", "zones"),
        locks=LOCKS,
        defers_to=(
            "buddy.lists-sound",
            "buddy.head-state",
            "buddy.blocks-disjoint",
            "memmap.zone",
            "memmap.section",
            "memmap.node",
        ),
    ),
    Rule(
        "buddy.nr-free",
        "nr_free of an order is the number of blocks on its lists, one list per migratetype",
        "add_to_free_list, del_page_from_free_list: mm/page_alloc.c, 6.1",
        "orders",
        LOOK_ZONE,
        check=nr_free,
        about="struct free_area",
        exceptions="inside zone->lock",
        invariants=(35,),
        needs=("zones",),
        locks=LOCKS,
        defers_to=("buddy.lists-sound", "buddy.listed"),
    ),
    Rule(
        "buddy.free-pages",
        "NR_FREE_PAGES of a zone, with every CPU's share, is the number of pages on its free lists but "
        "MIGRATE_ISOLATE's",
        "__mod_zone_freepage_state, rmqueue_bulk: mm/page_alloc.c; zone_page_state_snapshot: "
        "include/linux/vmstat.h, 6.1",
        "zones",
        LOOK_ZONE,
        check=free_pages,
        about="struct zone",
        exceptions="inside zone->lock, and while a CPU folds its share into the zone's",
        invariants=(36,),
        needs=("zones",),
        locks=LOCKS,
        defers_to=("guest.readable", "buddy.lists-sound", "buddy.listed"),
    ),
)

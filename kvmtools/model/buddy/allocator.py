"""The buddy allocator, over any of the three mem_maps: what it reads of ``struct page``, and what it takes for granted.

Source: mm/page_alloc.c: __free_pages_ok, expand, rmqueue (2.4.16; Red Hat's 2.4.18 has other flags);
__free_one_page, page_is_buddy, free_pages_check, prep_new_page, __rmqueue (2.6.18, 2.6.24);
__free_pages, free_pages_prepare, buddy_merge_likely, check_new_page (5.10, 6.1);
find_buddy_page_pfn (6.1 mm/internal.h); free_all_bootmem_core (2.6.18 mm/bootmem.c); __free_pages_memory (6.1
mm/memblock.c).  Whitcroft's remark of 25 September 2006 on linux-mm is what this module makes visible: a free
looks at the ``struct page`` of the block beside the one that is freed, on every order up to the largest, whether
there is memory or not.  Where the map has a hole that look is a page fault, unless ``pfn_valid`` is asked first
(CONFIG_HOLES_IN_ZONE); and 2.4 knew from a bitmap, without looking at the page.

Left out, because the shape of the free lists does not depend on them: per-CPU lists, migrate types (one list per
order, as if every page block had the same), watermarks, compaction, guard pages, ``page->mapping``, compound pages, and
the flags that prep_new_page() of 2.6 clears.  2.4 asks bad_range() of the buddies that merge, not of every block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model.buddy.free_lists import FreeLists
from kvmtools.model.buddy.record import Bitmaps, BuddyZone, Marks
from kvmtools.model.bugs import KernelBug
from kvmtools.model.eras import Era
from kvmtools.model.memmaps.conversions import MemMapKind
from kvmtools.model.pages import struct_page
from kvmtools.model.pages.flags_layout import FlagsLayout
from kvmtools.model.pages.struct_page import WORD, StructPages
from kvmtools.model.rounding import roundup
from kvmtools.records import Range, ZoneSpan

EVERY_CHECK = frozenset(("held", "idle", "aligned", "in zone", "buddy idle", "new"))
""":attr:`Era.buddy_checks <kvmtools.model.eras.Era.buddy_checks>` says what they are."""


class Checks(NamedTuple):
    """What CONFIG_HOLES_IN_ZONE has cost so far."""

    asked: int
    """Calls of ``pfn_valid``."""
    refused: int
    """Those that were answered no."""
    references: int
    """Memory references of all these calls."""
    walk_references: int
    """Page-table entries that the processor would read besides, if no TLB entry were there when a call begins."""


class Buddy:
    """The zones of one node, all of them empty until :meth:`free_all`.

    :param zones: in the order of ``enum zone_type``
    :param flags: where page->flags keeps the zone
    :param holes_in_zone: ask ``pfn_valid`` before looking at a buddy; 2.6.18 to 5.10 could be built so,
        for others it says what they would have done
    :param debug_vm: CONFIG_DEBUG_VM, all of the kernel's checks are made; without it, those of an ordinary build
    """

    def __init__(
        self,
        mem_map: MemMapKind,
        zones: Iterable[ZoneSpan],
        *,
        era: Era,
        flags: FlagsLayout,
        holes_in_zone: bool = False,
        debug_vm: bool = False,
    ) -> None:
        self.mem_map = mem_map
        self.era = era
        self._checked = EVERY_CHECK if debug_vm and era.debug_vm else frozenset(era.buddy_checks)
        self._holes_in_zone = holes_in_zone
        self._asked: dict[int, int] = {}
        self._refused = 0
        self.pages = StructPages(mem_map, era, flags)
        self._reserved = struct_page.flag(era, "reserved")
        self._unclean = {
            "idle": struct_page.mask(era, era.checked_at_free),
            "new": struct_page.mask(era, era.checked_at_prep),
        }
        self._cleared = struct_page.mask(era, era.cleared_at_free)
        self.lists = FreeLists(mem_map, struct_page.members(era), era.list_poison)
        mark = struct_page.buddy_mark(era)
        self._record: Bitmaps | Marks
        if mark is None:
            self._record = Bitmaps(era.max_order)
        else:
            checked_buddy = "buddy idle" in self._checked
            self._record = Marks(mem_map, mark, self.pages, self._pfn_valid_within, checked=checked_buddy)
        spans = list(zones)
        spans += [ZoneSpan("", 0, 0)] * ((1 << flags.zone_width) - len(spans))
        self.zones = tuple(
            BuddyZone(index, span, span.start_pfn if mark is None else 0, self.lists, era.max_order)
            for index, span in enumerate(spans)
        )
        """As many as page->flags can name; the last ones may be nameless and empty."""

    @property
    def free_pages(self) -> int:
        """Pages in all free blocks."""
        return sum(count << order for zone in self.zones for order, count in enumerate(zone.nr_free))

    @property
    def checks(self) -> Checks:
        """The calls of ``pfn_valid`` so far; their cost is what the mem_map, as it is now, takes for them."""
        costs = [(times, self.mem_map.cost("pfn_valid", pfn)) for pfn, times in self._asked.items()]
        return Checks(
            asked=sum(self._asked.values()),
            refused=self._refused,
            references=sum(times * cost.references for times, cost in costs),
            walk_references=sum(times * cost.walk_references for times, cost in costs),
        )

    def free_lists(self, zone: int) -> tuple[tuple[int, ...], ...]:
        """First pfns of the free blocks of a zone, per order, in list order.

        :raises KernelBug: if a list is corrupt
        """
        heads = self.zones[zone].heads
        return tuple(tuple(map(self.mem_map.page_to_pfn, self.lists.pages(head))) for head in heads)

    def memmap_init(self) -> None:
        """``memmap_init``: every ``struct page`` in the zones names its zone, and is reserved.

        Since 7.2 those beyond the last zone, up to the end of a block of the largest order, too.
        """
        for zone in self.zones:
            end = zone.span.end_pfn
            if self.era.tail_initialised and end == max(other.span.end_pfn for other in self.zones):
                end = roundup(end, 1 << (self.era.max_order - 1))
            for pfn in filter(self.mem_map.pfn_valid, range(zone.span.start_pfn, end)):
                page = self.mem_map.pfn_to_page(pfn)
                self.pages.initialise(page, zone.index, self.era.hole_refcount, self._reserved)
                self.lists.initialise(page)

    def free_all(self, ranges: Iterable[Range]) -> None:
        """The boot allocator hands over these pfns: in large blocks, but highmem page by page up to 6.12.

        A block never lies in two zones here.  7.2 does not look at that: it relies on what was allocated at the end of
        lowmem, such as ``mem_map``, to keep free memory on either side apart.

        :raises Unmapped: if that touches a ``struct page`` that is not there
        """
        largest = tuple(reversed(range(self.era.max_order)))
        for r in ranges:
            for zone in self.zones:
                singly = self.era.highmem_freed_singly and zone.span.name == "HIGHMEM"
                orders = (0,) if singly else self.era.boot_orders or largest
                pfn, end = max(r.start, zone.span.start_pfn), min(r.end, zone.span.end_pfn)
                while pfn < end:
                    order = next(o for o in orders if pfn % (1 << o) == 0 and pfn + (1 << o) <= end)
                    self._free_at_boot(pfn, order, to_tail=self.era.buddy_merge_likely and not singly)
                    pfn += 1 << order

    def free(self, pfn: int, order: int = 0) -> None:
        """``__free_pages``: put the block's first page, and free the block if nobody else holds it.

        :raises KernelBug: if a check notices that the block is not one that was allocated
        :raises Unmapped: if that touches a ``struct page`` that is not there
        :raises UsageError: if the era has no such order
        """
        self._require(order)
        page = self.mem_map.pfn_to_page(pfn)
        if self.era.keeps_reserved and self.pages.flags(page) & self._reserved:
            return
        count = self.pages.refcount(page)
        if count == 0 and "held" in self._checked:
            raise KernelBug(
                "page_count(page) == 0", f"pfn {pfn:#x} is freed, and nobody holds it: freed twice?"
            )
        self.pages.set_refcount(page, count - 1)
        if count == 1:
            self._free_pages_ok(page, pfn, order)
        elif self.era.frees_tails:
            while order:
                order -= 1
                self._free_pages_ok(self._beside(page, 1 << order), pfn + (1 << order), order)

    def alloc(self, order: int = 0, zone: int | None = None) -> int | None:
        """``alloc_pages``: the first pfn of a block of that order; ``None`` if there is none.

        :param zone: the highest zone that will do; lower ones are tried after it
        :raises KernelBug: if a check notices that what is on the free list is not free
        :raises UsageError: if the era has no such order
        """
        self._require(order)
        for candidate in reversed(self.zones if zone is None else self.zones[: zone + 1]):
            for current in range(order, self.era.max_order):
                page = self.lists.first(candidate.heads[current])
                if page is not None:
                    return self._rmqueue(candidate, page, order, current)
        return None

    def _require(self, order: int) -> None:
        if not 0 <= order < self.era.max_order:
            raise UsageError(
                f"no block has order {order}", hint=f"{self.era.name} has 0 to {self.era.max_order - 1}"
            )

    def _beside(self, page: int, pages: int) -> int:
        """``page + pages``, as C adds to a pointer: right only where ``mem_map`` is contiguous."""
        return page + pages * self.mem_map.page_struct_size

    def _pfn_valid_within(self, pfn: int) -> bool:
        """``pfn_valid_within``: constantly true without CONFIG_HOLES_IN_ZONE."""
        if not self._holes_in_zone:
            return True
        self._asked[pfn] = self._asked.get(pfn, 0) + 1
        valid = self.mem_map.pfn_valid(pfn)
        self._refused += not valid
        return valid

    def _free_at_boot(self, pfn: int, order: int, *, to_tail: bool) -> None:
        """``__free_pages_core`` (5.10, FPI_TO_TAIL), ``__free_pages_bootmem`` (2.6), ``free_highmem_page``."""
        page = self.mem_map.pfn_to_page(pfn)
        for i in range(1 << order):
            each = self._beside(page, i)
            self.pages.set_flags(each, self.pages.flags(each) & ~self._reserved)
            self.pages.set_refcount(each, 0)
        self._free_pages_ok(page, pfn, order, to_tail=to_tail)

    def _free_pages_ok(self, page: int, pfn: int, order: int, *, to_tail: bool = False) -> None:
        self._check_pages("idle", "free_pages_check(page)", page, pfn, order)
        for each in self._looked_at("idle", page, order):
            self.pages.set_flags(each, self.pages.flags(each) & ~self._cleared)
        zone = self.zones[self.pages.zone(page)]
        if "aligned" in self._checked and (pfn - zone.base) % (1 << order):
            raise KernelBug(f"pfn & ((1 << {order}) - 1)", f"pfn {pfn:#x} begins no block of order {order}")
        self._check_range(zone, page, pfn)
        self._free_one_page(zone, page, pfn, order, to_tail)

    def _check_pages(self, check: str, condition: str, page: int, pfn: int, order: int) -> None:
        """``free_pages_check``, ``check_new_page``: the kernel reports a bad page, and will not use it any more."""
        if check not in self._checked:
            return
        for i, each in enumerate(self._looked_at(check, page, order)):
            count, wrong = self.pages.refcount(each), self.pages.flags(each) & self._unclean[check]
            held = self.era.checks_counts and (count or self.pages.mapcount(each) != WORD)
            if held or wrong:
                names = " ".join(struct_page.flag_names(self.era, wrong)) or "none"
                raise KernelBug(
                    condition,
                    f"bad page state of pfn {pfn + i:#x}: refcount {count}, "
                    f"mapcount or type {self.pages.mapcount(each):#x}, wrong flags {names}",
                )

    def _looked_at(self, check: str, page: int, order: int) -> Iterator[int]:
        """The struct pages of a block that a check is about."""
        for i in range(1 if check in self.era.checks_head_only else 1 << order):
            yield self._beside(page, i)

    def _check_range(self, zone: BuddyZone, page: int, pfn: int) -> None:
        """``bad_range``."""
        if "in zone" not in self._checked:
            return
        if pfn not in zone or not self._pfn_valid_within(pfn) or self.pages.zone(page) != zone.index:
            raise KernelBug(
                "bad_range(zone, page)", f"pfn {pfn:#x} is not in the zone that it names, {zone.span.name}"
            )

    def _free_one_page(self, zone: BuddyZone, page: int, pfn: int, order: int, to_tail: bool) -> None:
        """Merge with the buddy as long as there is one, then put what it has become on its list."""
        while order < self.era.max_order - 1:
            buddy_pfn = (pfn - zone.base ^ 1 << order) + zone.base
            buddy = self._beside(page, buddy_pfn - pfn)
            if not self._record.merges(zone, page, pfn, buddy, buddy_pfn, order):
                break
            self._remove(zone, buddy, order)
            page, pfn = min(page, buddy), min(pfn, buddy_pfn)
            order += 1
        self._insert(zone, page, order, to_tail or self._merge_likely(zone, page, pfn, order))

    def _merge_likely(self, zone: BuddyZone, page: int, pfn: int, order: int) -> bool:
        """``buddy_merge_likely``: the buddy of the block that this one and its own buddy would form is free."""
        buddy_pfn = pfn ^ 1 << order
        parent_pfn = min(pfn, buddy_pfn)
        parent = self._beside(page, parent_pfn - pfn)
        other_pfn = parent_pfn ^ 2 << order
        other = self._beside(parent, other_pfn - parent_pfn)
        return (
            self.era.buddy_merge_likely
            and order < self.era.max_order - 2
            and self._pfn_valid_within(buddy_pfn)
            and self._record.merges(zone, parent, parent_pfn, other, other_pfn, order + 1)
        )

    def _insert(self, zone: BuddyZone, page: int, order: int, at_tail: bool) -> None:
        self._record.enter(page, order)
        (self.lists.add_tail if at_tail else self.lists.add)(page, zone.heads[order])
        zone.nr_free[order] += 1

    def _remove(self, zone: BuddyZone, page: int, order: int) -> None:
        self.lists.delete(page)
        self._record.leave(page)
        zone.nr_free[order] -= 1

    def _rmqueue(self, zone: BuddyZone, page: int, order: int, current: int) -> int:
        """Take a block of order ``current`` off its list, and give back what is too much of it."""
        pfn = self.mem_map.page_to_pfn(page)
        self._remove(zone, page, current)
        self._record.toggle(zone, pfn, current)
        while current > order:
            current -= 1
            upper, upper_pfn = self._beside(page, 1 << current), pfn + (1 << current)
            kept, kept_pfn = (page, pfn) if self.era.split_keeps_lower_half else (upper, upper_pfn)
            if self.era.split_keeps_lower_half:
                page, pfn = upper, upper_pfn
            self._check_range(zone, kept, kept_pfn)
            self._insert(zone, kept, current, at_tail=False)
            self._record.toggle(zone, kept_pfn, current)
        self._check_range(zone, page, pfn)
        self._check_pages("new", "check_new_page(page)", page, pfn, order)
        self.pages.set_refcount(page, 1)
        return pfn

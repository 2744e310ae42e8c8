"""How the allocator knows that a buddy is free: by a bit of a bitmap (2.4), or by what the buddy's page says (2.6 on).

Source: mm/page_alloc.c: test_and_change_bit in __free_pages_ok, MARK_USED in expand and rmqueue (2.4.18);
page_is_buddy (2.6.18, 5.10, mm/internal.h 6.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvmtools.model.buddy.free_lists import FreeLists
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pages.struct_page import Mark, StructPages, Words
from kvmtools.records import ZoneSpan


class BuddyZone:
    """``struct zone``: its span and, per order, a list of free blocks.

    :param index: number in ``enum zone_type``
    :param base: the pfn from which blocks are aligned
    """

    def __init__(self, index: int, span: ZoneSpan, base: int, lists: FreeLists, max_order: int) -> None:
        self.index = index
        self.span = span
        self.base = base
        self.heads = tuple(lists.new() for _ in range(max_order))
        self.nr_free = [0] * max_order

    def __contains__(self, pfn: int) -> bool:
        """``zone_spans_pfn``."""
        return self.span.start_pfn <= pfn < self.span.end_pfn


class Record(Protocol):
    """What is noted about free blocks besides the lists.  A block is its first page, that page's pfn, and an order."""

    def merges(self, zone: BuddyZone, page: int, pfn: int, buddy: int, buddy_pfn: int, order: int) -> bool:
        """The block is being freed: whether its buddy is free, as a whole."""

    def toggle(self, zone: BuddyZone, pfn: int, order: int) -> None:
        """The block was free and is not, or the reverse, while its buddy stays what it is."""

    def enter(self, page: int, order: int) -> None:
        """The block goes on a free list."""

    def leave(self, page: int) -> None:
        """The block is off its list."""


class Bitmaps:
    """A bit for each pair of buddies, per zone and order: set while exactly one of the two is free, as a whole.

    So freeing a block needs no look at its buddy.  Bits are counted from the zone's start.
    """

    def __init__(self, max_order: int) -> None:
        self._largest = max_order - 1
        self.set_bits: set[tuple[int, int, int]] = set()
        """``(zone, order, index >> (1 + order))``."""

    def merges(self, zone: BuddyZone, page: int, pfn: int, buddy: int, buddy_pfn: int, order: int) -> bool:
        """``test_and_change_bit``."""
        self.toggle(zone, pfn, order)
        return self._bit(zone, pfn, order) not in self.set_bits

    def toggle(self, zone: BuddyZone, pfn: int, order: int) -> None:
        """``MARK_USED``; the largest blocks have no buddies and no bitmap."""
        if order < self._largest:
            self.set_bits ^= {self._bit(zone, pfn, order)}

    def enter(self, page: int, order: int) -> None:
        """The bit says it."""

    def leave(self, page: int) -> None:
        """The bit says it."""

    def _bit(self, zone: BuddyZone, pfn: int, order: int) -> tuple[int, int, int]:
        return zone.index, order, pfn - zone.base >> 1 + order


class Marks:
    """The head of a free block says so itself, and what order it has.

    :param mark: how it says so
    :param within: ``pfn_valid_within``, asked before a page is looked at that may be in a hole
    :param checked: ``BUG_ON(page_count(buddy) != 0)`` is compiled in
    """

    def __init__(
        self, words: Words, mark: Mark, pages: StructPages, within: Callable[[int], bool], *, checked: bool
    ) -> None:
        self._words = words
        self._mark = mark
        self._pages = pages
        self._within = within
        self._checked = checked

    def merges(self, zone: BuddyZone, page: int, pfn: int, buddy: int, buddy_pfn: int, order: int) -> bool:
        """``page_is_buddy``: a free block of the same order in the same zone begins at ``buddy``."""
        if not self._within(buddy_pfn):
            return False
        if self._mark.order(self._words, buddy) != order or self._pages.zone(buddy) != self._pages.zone(page):
            return False
        if self._checked and self._pages.refcount(buddy) != 0:
            raise KernelBug(
                "page_count(buddy) != 0",
                f"pfn {buddy_pfn:#x} is marked free, but {self._pages.refcount(buddy)} hold it",
            )
        return True

    def toggle(self, zone: BuddyZone, pfn: int, order: int) -> None:
        """The marks say it."""

    def enter(self, page: int, order: int) -> None:
        self._mark.set(self._words, page, order)

    def leave(self, page: int) -> None:
        self._mark.clear(self._words, page)

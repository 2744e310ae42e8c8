"""How the buddy allocator knows that a block is free: by marks in struct page, in 2.4 by a bitmap."""

from __future__ import annotations

import pytest
from buddies import TinyMap, booted, small, tiny

from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.buddy.record import Bitmaps
from kvmtools.records import Range, ZoneSpan


class TestPageIsBuddy:
    """Marks.merges(): a plain yes or no."""

    @pytest.mark.parametrize(
        ("holes_in_zone", "buddy_pfn", "order", "merges"),
        [
            (False, 4, 2, True),
            (False, 4, 1, False),
            (False, 5, 0, False),
            (False, 8, 2, False),
            (True, 12, 2, False),
        ],
    )
    def test_answer(self, holes_in_zone: bool, buddy_pfn: int, order: int, merges: bool) -> None:
        """[4, 8) is free as one block, and so is [8, 12), of another zone; pfn 12 is not valid."""
        zones = (ZoneSpan("NORMAL", 0, 8), ZoneSpan("HIGHMEM", 8, 16))
        buddy = booted(
            TinyMap(range(16), valid=range(12)),
            (Range(4, 12),),
            small("5.10", 4),
            zones=zones,
            holes_in_zone=holes_in_zone,
        )
        page, other = (buddy.mem_map.pfn_to_page(pfn) for pfn in (0, buddy_pfn))
        assert buddy._record.merges(buddy.zones[0], page, 0, other, buddy_pfn, order) is merges


class TestBitmap:
    """free_area[order].map of 2.4: a bit for two buddies, set while one of them is free."""

    @staticmethod
    def bits(buddy: Buddy) -> set[tuple[int, int, int]]:
        assert isinstance(buddy._record, Bitmaps)
        return buddy._record.set_bits

    def test_all_free(self) -> None:
        assert self.bits(tiny("2.4")) == set()

    def test_the_largest_have_none(self) -> None:
        """``if (curr_order != MAX_ORDER-1)``, and a NULL map."""
        buddy = tiny("2.4")
        buddy.alloc(3)
        assert self.bits(buddy) == set()

    def test_split(self) -> None:
        """Pfn 7 is taken out of [0, 8): 6, [4, 6) and [0, 4) are free, their buddies are not."""
        buddy = tiny("2.4")
        assert [buddy.alloc(3), buddy.alloc(0)] == [8, 7]
        buddy.free(8, 3)
        assert self.bits(buddy) == {(0, 0, 3), (0, 1, 1), (0, 2, 0)}
        assert buddy.alloc(0) == 6
        assert self.bits(buddy) == {(0, 1, 1), (0, 2, 0)}

"""Blocks that are freed: with what they merge, and at which end of the free list they go."""

from __future__ import annotations

import pytest
from buddies import MARKED, SINCE_5_10, TinyMap, booted, small, tiny

from kvmtools.model import eras
from kvmtools.records import Range, ZoneSpan


class TestMerge:
    @pytest.mark.parametrize("name", eras.NAMES)
    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
    def test_all_of_it(self, name: str, order: tuple[int, ...]) -> None:
        buddy = tiny(name, 4, 3)
        for _ in range(4):
            buddy.alloc(0)
        for pfn in order:
            buddy.free(pfn)
        assert buddy.free_lists(0) == ((), (), (0,))

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_neighbours_that_are_no_buddies(self, name: str) -> None:
        buddy = tiny(name, 4, 3)
        for _ in range(4):
            buddy.alloc(0)
        buddy.free(1)
        buddy.free(2)
        assert sorted(buddy.free_lists(0)[0]) == [1, 2]

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_not_beyond_the_largest(self, name: str) -> None:
        buddy = tiny(name, 16, 3)
        assert [sorted(order) for order in buddy.free_lists(0)] == [[], [], [0, 4, 8, 12]]
        buddy.free(buddy.alloc(2) or 0, 2)
        assert [sorted(order) for order in buddy.free_lists(0)] == [[], [], [0, 4, 8, 12]]

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_orders_must_agree(self, name: str) -> None:
        """Pfn 0 of order 0 does not merge with a free block of order 0 at 1 that is part of a larger one."""
        buddy = tiny(name, 8)
        taken = [buddy.alloc(1) for _ in range(4)]
        assert sorted(pfn for pfn in taken if pfn is not None) == [0, 2, 4, 6]
        buddy.free(2, 1)
        buddy.free(4, 1)
        assert [sorted(order) for order in buddy.free_lists(0)] == [[], [2, 4], [], []]

    @pytest.mark.parametrize("name", MARKED)
    def test_not_across_zones(self, name: str) -> None:
        """As lowmem of 6.1 ends at pfn 0x375fe, in the middle of a block: buddies of different zones stay apart."""
        zones = (ZoneSpan("NORMAL", 0, 6), ZoneSpan("HIGHMEM", 6, 8))
        buddy = booted(TinyMap(range(8)), (Range(0, 8),), small(name, 4), zones=zones)
        assert (buddy.free_lists(0), buddy.free_lists(1)) == (((), (4,), (0,), ()), ((), (6,), (), ()))

    def test_2_4_counts_from_the_zone(self) -> None:
        """``page_idx = page - base``: blocks are aligned to the start of the zone, whatever that is."""
        zones = (ZoneSpan("DMA", 0, 3), ZoneSpan("NORMAL", 3, 11))
        buddy = booted(TinyMap(range(16)), (Range(0, 11),), small("2.4", 4), zones=zones)
        assert (buddy.free_lists(0), buddy.free_lists(1)) == (((2,), (0,), (), ()), ((), (), (), (3,)))
        assert [buddy.alloc(0), buddy.alloc(2), buddy.alloc(1)] == [10, 3, 7]
        buddy.free(3, 2)
        buddy.free(10)
        buddy.free(7, 1)
        assert buddy.free_lists(1) == ((), (), (), (3,))


class TestToTail:
    """buddy_merge_likely(): a block whose parent's buddy is free goes to the end of the list."""

    @pytest.mark.parametrize("name", SINCE_5_10)
    def test_likely_or_not(self, name: str) -> None:
        """Free at first: [12, 16) as one block."""
        buddy = tiny(name)
        taken = [buddy.alloc(0) for _ in range(12)]
        assert sorted(pfn for pfn in taken if pfn is not None) == list(range(12))
        for pfn in (4, 9):
            buddy.free(pfn)
        assert buddy.free_lists(0)[0] == (9, 4)
        for pfn in (7, 6):  # [6, 8): its parent [4, 8) has the buddy [0, 4), all taken
            buddy.free(pfn)
        assert buddy.free_lists(0)[:2] == ((9, 4), (6,))
        buddy.free(0)  # its parent [0, 2) has the buddy [2, 4)
        assert buddy.free_lists(0)[0] == (0, 9, 4)
        for pfn in (10, 11):  # [10, 12): its parent [8, 12) has the buddy [12, 16), and that is free
            buddy.free(pfn)
        assert buddy.free_lists(0)[:3] == ((0, 9, 4), (6, 10), (12,))

    @pytest.mark.parametrize("name", SINCE_5_10)
    @pytest.mark.parametrize(("pfn", "lists"), [(4, ((0, 4), (6,))), (5, ((0, 5), (6,)))])
    def test_at_the_tail(self, name: str, pfn: int, lists: tuple[tuple[int, ...], ...]) -> None:
        """[6, 8) is free: whichever of [4, 6) is freed first will merge far when the other comes."""
        buddy = tiny(name, 8)
        for _ in range(8):
            buddy.alloc(0)
        for freed in (0, 6, 7, pfn):
            buddy.free(freed)
        assert buddy.free_lists(0)[:2] == lists

    @pytest.mark.parametrize("name", SINCE_5_10)
    @pytest.mark.parametrize("pfn", [2, 3])
    def test_what_is_free_may_lie_below(self, name: str, pfn: int) -> None:
        """[0, 2) is free, the buddy of the parent [2, 4), which lies below it."""
        buddy = tiny(name)
        for _ in range(16):
            buddy.alloc(0)
        for freed in (8, 0, 1, pfn):
            buddy.free(freed)
        assert buddy.free_lists(0)[:2] == ((8, pfn), (0,))

    @pytest.mark.parametrize("name", ["2.4", "2.6.18", "2.6.32"])
    def test_always_first_before(self, name: str) -> None:
        buddy = tiny(name, 8)
        for _ in range(8):
            buddy.alloc(0)
        for freed in (0, 6, 7, 4):
            buddy.free(freed)
        assert buddy.free_lists(0)[:2] == ((4, 0), (6,))

    def test_not_below_the_largest(self) -> None:
        """``order >= MAX_ORDER - 2``: their parents are largest blocks, which do not merge."""
        buddy = tiny("6.1", 16, 4)
        for _ in range(4):
            buddy.alloc(2)
        for pfn in (0, 8, 12, 4):
            buddy.free(pfn, 2)
        buddy = tiny("6.1", 32, 4)
        taken = sorted(pfn for pfn in (buddy.alloc(2) for _ in range(8)) if pfn is not None)
        assert taken == [0, 4, 8, 12, 16, 20, 24, 28]
        for pfn in (
            0,
            8,
            12,
            16,
        ):  # [8, 16) is free, and the parent of 0 is its buddy; still 0 stays behind 16
            buddy.free(pfn, 2)
        assert buddy.free_lists(0)[2] == (16, 0)
        buddy.free(24, 2)
        assert buddy.free_lists(0)[2:] == ((24, 16, 0), (8,))

    def test_just_below_that(self) -> None:
        """Order MAX_ORDER - 3 is looked after: [4, 8) is free and 0 of order 1 goes behind 8."""
        buddy = tiny("6.1", 16, 4)
        for _ in range(8):
            buddy.alloc(1)
        for pfn in (8, 4, 6, 0):
            buddy.free(pfn, 1)
        assert buddy.free_lists(0)[1:3] == ((8, 0), (4,))

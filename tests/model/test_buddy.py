"""The buddy allocator, step by step: what each era does where they differ, and what their checks notice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from buddies import FLAGS, TinyMap, booted, small

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.buddy import Buddy
from kvmtools.model.buddy_record import Bitmaps
from kvmtools.model.bugs import KernelBug
from kvmtools.model.memmap import FlagsLayout
from kvmtools.model.struct_page import WORD, flag, members
from kvmtools.records import Range, ZoneSpan

MARKED = ("2.6.18", "2.6.24", "2.6.32", "5.10", "6.1", "6.12", "7.2")
SINCE_5_10 = ("5.10", "6.1", "6.12", "7.2")


def tiny(
    name: str = "6.1",
    pages: int = 16,
    max_order: int = 4,
    *,
    debug_vm: bool = False,
    present: int | None = None,
) -> Buddy:
    """All pages of one zone from pfn 0 free."""
    end = -(-pages >> max_order - 1) << max_order - 1 if present is None else present
    return booted(TinyMap(range(end)), (Range(0, pages),), small(name, max_order), debug_vm=debug_vm)


def words(buddy: Buddy) -> TinyMap:
    assert isinstance(buddy.mem_map, TinyMap)
    return buddy.mem_map


class TestBoot:
    """What the free lists look like when the boot allocator has handed over 13 pages."""

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_largest_aligned_blocks(self, name: str) -> None:
        buddy = tiny(name, 13)
        assert [sorted(order) for order in buddy.free_lists(0)] == [[12], [], [8], [0]]
        assert buddy.zones[0].nr_free == [1, 0, 1, 1]
        assert buddy.free_pages == 13

    def test_order_of_freeing_2_4(self) -> None:
        """Page by page: the later block is ahead in its list, as list_add puts it."""
        assert tiny("2.4", 24).free_lists(0) == ((), (), (), (16, 8, 0))

    def test_order_of_freeing_2_6(self) -> None:
        """free_all_bootmem_core(): a word of its bitmap at a time, 32 pages; what is left over one by one."""
        buddy = tiny("2.6.18", 3 * 32 + 3, 7)
        assert buddy.free_lists(0) == ((98,), (96,), (), (), (), (64,), (0,))

    @pytest.mark.parametrize("name", SINCE_5_10)
    def test_order_of_freeing_since_5_10(self, name: str) -> None:
        """FPI_TO_TAIL: the lowest block stays first."""
        assert tiny(name, 24).free_lists(0) == ((), (), (), (0, 8, 16))

    @pytest.mark.parametrize(
        ("name", "freed"),
        [
            ("2.4", [(pfn, 0) for pfn in range(35)]),
            ("2.6.24", [(0, 5), (32, 0), (33, 0), (34, 0)]),
            ("6.1", [(0, 5), (32, 1), (34, 0)]),
        ],
    )
    def test_what_is_freed(
        self, name: str, freed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        era = small(name, 7)
        buddy = Buddy(TinyMap(range(64)), (ZoneSpan("NORMAL", 0, 64),), era=era, flags=FLAGS)
        found: list[tuple[int, int]] = []
        monkeypatch.setattr(buddy, "_free_at_boot", lambda pfn, order, to_tail: found.append((pfn, order)))
        buddy.free_all((Range(0, 35),))
        assert found == freed

    @pytest.mark.parametrize(
        ("name", "highmem"), [("6.12", [(8, 0), (9, 0), (10, 0)]), ("7.2", [(8, 1), (10, 0)])]
    )
    def test_highmem_page_by_page(
        self, name: str, highmem: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """add_highpages_with_active_regions() is gone in 7.2 (mm/memblock.c); no block is freed across zones."""
        zones = (ZoneSpan("NORMAL", 0, 8), ZoneSpan("HIGHMEM", 8, 16))
        buddy = Buddy(TinyMap(range(16)), zones, era=small(name, 5), flags=FLAGS)
        found: list[tuple[int, int]] = []
        monkeypatch.setattr(buddy, "_free_at_boot", lambda pfn, order, to_tail: found.append((pfn, order)))
        buddy.free_all((Range(0, 3), Range(4, 11), Range(20, 30)))
        assert found == [(0, 1), (2, 0), (4, 2), *highmem]

    @pytest.mark.parametrize(("name", "order"), [("6.1", (24, 16)), ("7.2", (16, 24))])
    def test_order_of_freeing_highmem(self, name: str, order: tuple[int, ...]) -> None:
        """__free_page() puts a block first, as always; only __free_pages_core() puts it last (FPI_TO_TAIL)."""
        zones = (ZoneSpan("NORMAL", 0, 16), ZoneSpan("HIGHMEM", 16, 32))
        buddy = booted(TinyMap(range(32)), (Range(0, 32),), small(name, 4), zones=zones)
        assert [buddy.free_lists(zone)[3] for zone in (0, 1)] == [(0, 8), order]

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_struct_pages(self, name: str) -> None:
        """Free pages are not reserved and nobody holds them; a page that was not handed over stays reserved."""
        era = small(name, 3)
        buddy = booted(TinyMap(range(8)), (Range(0, 4), Range(5, 8)), era)
        reserved = flag(era, "reserved")
        assert [buddy.pages.flags(buddy.mem_map.pfn_to_page(pfn)) & reserved for pfn in range(8)] == [
            0, 0, 0, 0, reserved, 0, 0, 0,
        ]  # fmt: skip
        counts = [buddy.pages.refcount(buddy.mem_map.pfn_to_page(pfn)) for pfn in range(8)]
        assert counts == [0, 0, 0, 0, 0 if name == "2.4" else 1, 0, 0, 0]

    @pytest.mark.parametrize(("name", "initialised"), [("6.12", 13), ("7.2", 16)])
    def test_tail(self, name: str, initialised: int) -> None:
        """Only since 7.2 are the pages behind the last zone, up to the end of its block, initialised (FACTS C.1)."""
        zones = (ZoneSpan("DMA", 2, 5), ZoneSpan("NORMAL", 5, 13), ZoneSpan("HIGHMEM", 13, 13))
        buddy = Buddy(TinyMap(range(24)), zones, era=small(name, 4), flags=FLAGS)
        buddy.memmap_init()
        found = [pfn for pfn in range(24) if buddy.pages.flags(buddy.mem_map.pfn_to_page(pfn))]
        assert found == list(range(2, initialised))
        assert [buddy.pages.zone(buddy.mem_map.pfn_to_page(pfn)) for pfn in (4, 5, 12)] == [0, 1, 1]

    def test_links_before_the_first_free(self) -> None:
        """INIT_LIST_HEAD(&page->lru)."""
        buddy = Buddy(TinyMap(range(2)), (ZoneSpan("NORMAL", 0, 2),), era=small("6.1", 2), flags=FLAGS)
        buddy.memmap_init()
        page = buddy.mem_map.pfn_to_page(1)
        assert buddy.mem_map.read(page, 4) == buddy.mem_map.read(page, 8) == page + 4

    def test_holes_are_not_initialised(self) -> None:
        mem_map = TinyMap({0, 1, 4, 5})
        Buddy(mem_map, (ZoneSpan("NORMAL", 0, 6),), era=small("6.1", 2), flags=FLAGS).memmap_init()
        assert {mem_map.page_to_pfn(address) for address in mem_map.words} == {0, 1, 4, 5}


class TestSplit:
    @pytest.mark.parametrize("name", MARKED)
    def test_lower_half_is_given(self, name: str) -> None:
        """expand(): the upper halves go back, so allocation climbs."""
        buddy = tiny(name, 8)
        assert buddy.alloc(0) == 0
        assert buddy.free_lists(0) == ((1,), (2,), (4,), ())
        assert [buddy.alloc(0) for _ in range(3)] == [1, 2, 3]

    def test_upper_half_is_given_in_2_4(self) -> None:
        """expand() of 2.4 puts ``page`` itself on the list, and goes on with ``page += size``."""
        buddy = tiny("2.4", 8)
        assert buddy.alloc(0) == 7
        assert buddy.free_lists(0) == ((6,), (4,), (0,), ())
        assert [buddy.alloc(0) for _ in range(3)] == [6, 5, 4]

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_whole_blocks(self, name: str) -> None:
        buddy = tiny(name)
        found = {buddy.alloc(3), buddy.alloc(3)}
        assert found == {0, 8}
        assert buddy.alloc(3) is buddy.alloc(0) is None
        assert buddy.free_pages == 0
        assert buddy.zones[0].nr_free == [0, 0, 0, 0]

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_one_holder(self, name: str) -> None:
        buddy = tiny(name)
        pfn = buddy.alloc(1)
        assert pfn is not None
        assert [buddy.pages.refcount(buddy.mem_map.pfn_to_page(pfn + i)) for i in (0, 1)] == [1, 0]

    @pytest.mark.parametrize(
        ("name", "poison"),
        [
            ("2.6.18", (0x00100100, 0x00200200)),
            ("2.6.32", (0x00100100, 0x00200200)),
            ("6.1", (0x100, 0x122)),
            ("7.2", (0x100, 0x122)),
        ],
    )
    def test_poison(self, name: str, poison: tuple[int, int]) -> None:
        """include/linux/poison.h; LIST_POISON1 and 2 of 6.1 are measured (FACTS A.3)."""
        buddy = tiny(name)
        page = buddy.mem_map.pfn_to_page(buddy.alloc(3) or 0)
        at = members(buddy.era).next
        assert (buddy.mem_map.read(page, at), buddy.mem_map.read(page, at + 4)) == poison

    def test_2_4_leaves_links(self) -> None:
        buddy = tiny("2.4", 8)
        page = buddy.mem_map.pfn_to_page(buddy.alloc(3) or 0)
        head = buddy.zones[0].heads[3]
        assert (buddy.mem_map.read(page, 0), buddy.mem_map.read(page, 4)) == (head, head)


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


class TestZones:
    ZONES = (ZoneSpan("DMA", 0, 4), ZoneSpan("NORMAL", 4, 8), ZoneSpan("HIGHMEM", 8, 12))

    def test_highest_first(self) -> None:
        buddy = booted(TinyMap(range(16)), (Range(0, 12),), small("6.1", 3), zones=self.ZONES)
        assert [buddy.alloc(2) for _ in range(4)] == [8, 4, 0, None]

    @pytest.mark.parametrize(("zone", "found"), [(0, [0, None]), (1, [4, 0]), (2, [8, 4]), (3, [8, 4])])
    def test_no_higher_than_asked(self, zone: int, found: list[int | None]) -> None:
        buddy = booted(TinyMap(range(16)), (Range(0, 12),), small("6.1", 3), zones=self.ZONES)
        assert [buddy.alloc(2, zone), buddy.alloc(2, zone)] == found

    def test_nameless_ones(self) -> None:
        """Two bits of page->flags can name four zones."""
        buddy = Buddy(TinyMap(()), self.ZONES, era=eras.named("6.1"), flags=FLAGS)
        assert [(zone.index, zone.span.name, zone.base) for zone in buddy.zones] == [
            (0, "DMA", 0), (1, "NORMAL", 0), (2, "HIGHMEM", 0), (3, "", 0),
        ]  # fmt: skip
        assert (buddy.zones[3].span.start_pfn, buddy.zones[3].span.end_pfn) == (0, 0)
        assert 0 not in buddy.zones[3]
        three_bits = Buddy(TinyMap(()), self.ZONES, era=eras.named("6.1"), flags=FlagsLayout(32, 0, 29, 3))
        assert len(three_bits.zones) == 8

    def test_span(self) -> None:
        zone = Buddy(TinyMap(()), self.ZONES, era=eras.named("6.1"), flags=FLAGS).zones[1]
        assert [pfn in zone for pfn in (3, 4, 7, 8)] == [False, True, True, False]

    @pytest.mark.parametrize(("name", "orders"), [("2.4", 10), ("6.1", 11)])
    def test_orders(self, name: str, orders: int) -> None:
        buddy = Buddy(TinyMap(()), self.ZONES, era=eras.named(name), flags=FLAGS)
        assert len(buddy.free_lists(0)) == len(buddy.zones[0].nr_free) == orders
        for bad in (-1, orders):
            with pytest.raises(UsageError, match=rf"no block has order {bad}.*{name} has 0 to {orders - 1}"):
                buddy.alloc(bad)
            with pytest.raises(UsageError, match=f"order {bad}"):
                buddy.free(0, bad)


class TestFreedTwice:
    """put_page_testzero(): only 2.6.18 stops here in an ordinary build; the others go on, each in its own way."""

    @pytest.mark.parametrize(("name", "debug_vm"), [("2.6.18", False), *((name, True) for name in MARKED)])
    def test_noticed(self, name: str, debug_vm: bool) -> None:
        buddy = tiny(name, debug_vm=debug_vm)
        pfn = buddy.alloc(1)
        assert pfn is not None
        buddy.free(pfn, 1)
        with pytest.raises(
            KernelBug, match=rf"page_count\(page\) == 0\): pfn {pfn:#x} is freed, and nobody holds it"
        ):
            buddy.free(pfn, 1)
        assert buddy.pages.refcount(buddy.mem_map.pfn_to_page(pfn)) == 0

    @pytest.mark.parametrize("name", ["2.4", "2.6.24", "2.6.32", *SINCE_5_10])
    def test_a_page_silently(self, name: str) -> None:
        """The count becomes -1, nothing is freed, and the free lists stay as they are."""
        buddy = tiny(name)
        pfn = buddy.alloc(0)
        assert pfn is not None
        buddy.free(pfn)
        lists = buddy.free_lists(0)
        buddy.free(pfn)
        assert buddy.free_lists(0) == lists
        assert buddy.pages.refcount(buddy.mem_map.pfn_to_page(pfn)) == -1

    @pytest.mark.parametrize("name", ["2.6.24", "2.6.32", "5.10", "6.1"])
    def test_noticed_when_it_is_handed_out(self, name: str) -> None:
        """check_new_page(): bad page state."""
        buddy = tiny(name, 1, 1)
        buddy.alloc()
        buddy.free(0)
        buddy.free(0)
        with pytest.raises(
            KernelBug, match=r"check_new_page\(page\)\): bad page state of pfn 0x0: refcount -1, mapcount"
        ):
            buddy.alloc()

    @pytest.mark.parametrize("name", ["2.4", "6.12", "7.2"])
    def test_never_noticed(self, name: str) -> None:
        """2.4 just sets the count; since 6.3 nobody looks (check_pages_enabled)."""
        buddy = tiny(name, 1, 1)
        buddy.alloc()
        buddy.free(0)
        buddy.free(0)
        assert buddy.alloc() == 0
        assert buddy.pages.refcount(buddy.mem_map.pfn_to_page(0)) == 1

    @pytest.mark.parametrize("name", ["2.4", "2.6.24", "2.6.32"])
    def test_a_block_silently(self, name: str) -> None:
        buddy = tiny(name, 8)
        buddy.alloc(3)
        buddy.free(0, 3)
        buddy.free(0, 3)
        assert buddy.free_lists(0) == ((), (), (), (0,))

    @pytest.mark.parametrize("name", SINCE_5_10)
    def test_a_block_ruins_the_lists(self, name: str) -> None:
        """Since 5.10 __free_pages() frees the rest of a block whose first page stays: 4, 2 and 1, a second time."""
        buddy = tiny(name, 8)
        buddy.alloc(3)
        buddy.free(0, 3)
        buddy.free(0, 3)
        assert buddy.free_lists(0) == ((1,), (2,), (4,), (0,))
        assert buddy.free_pages == 8 + 7

    @pytest.mark.parametrize(
        ("name", "left"), [("2.4", ()), ("2.6.18", ()), ("2.6.32", ()), ("5.10", (2,)), ("7.2", (2,))]
    )
    def test_what_that_is_for(self, name: str, left: tuple[int, ...]) -> None:
        """Somebody else still holds the first page: the others were lost before 5.10, until the block is freed."""
        buddy = tiny(name, 4, 3)
        buddy.alloc(2)
        page = buddy.mem_map.pfn_to_page(0)
        buddy.pages.set_refcount(page, 2)
        buddy.free(0, 2)
        assert buddy.pages.refcount(page) == 1
        assert buddy.free_lists(0)[1] == left
        assert buddy.free_pages == (3 if left else 0)
        if left:
            buddy.free(0)
            assert buddy.free_lists(0) == ((), (), (0,))


class TestFreedWrong:
    @pytest.mark.parametrize(
        ("name", "debug_vm"), [("2.4", False), ("2.6.18", False), *((name, True) for name in MARKED)]
    )
    def test_misaligned(self, name: str, debug_vm: bool) -> None:
        buddy = tiny(name, debug_vm=debug_vm)
        while buddy.alloc(0) is not None:
            pass
        buddy.pages.set_refcount(buddy.mem_map.pfn_to_page(4), 0)
        with pytest.raises(
            KernelBug, match=r"pfn & \(\(1 << 1\) - 1\)\): pfn 0x3 begins no block of order 1"
        ):
            buddy.free(3, 1)

    @pytest.mark.parametrize("name", ["2.6.24", "2.6.32", *SINCE_5_10])
    def test_misaligned_silently(self, name: str) -> None:
        """The block goes on the list as it is, and overlaps its neighbour for ever after."""
        buddy = tiny(name)
        while buddy.alloc(0) is not None:
            pass
        buddy.pages.set_refcount(buddy.mem_map.pfn_to_page(4), 0)
        buddy.free(3, 1)
        assert buddy.free_lists(0)[1] == (3,)

    def test_2_4_aligns_to_the_zone(self) -> None:
        zones = (ZoneSpan("DMA", 0, 3), ZoneSpan("NORMAL", 3, 11))
        buddy = booted(TinyMap(range(16)), (Range(0, 11),), small("2.4", 4), zones=zones)
        assert [buddy.alloc(1) for _ in range(2)] == [9, 7]
        for pfn, count in ((8, 1), (9, 0)):
            buddy.pages.set_refcount(buddy.mem_map.pfn_to_page(pfn), count)
        with pytest.raises(KernelBug, match="pfn 0x8 begins no block"):
            buddy.free(8, 1)

    @pytest.mark.parametrize(
        ("name", "debug_vm"), [*((name, False) for name in MARKED[:5]), ("6.12", True), ("7.2", True)]
    )
    def test_reserved(self, name: str, debug_vm: bool) -> None:
        buddy = booted(TinyMap(range(8)), (Range(0, 2), Range(4, 8)), small(name, 4), debug_vm=debug_vm)
        with pytest.raises(
            KernelBug,
            match=r"free_pages_check\(page\)\): bad page state of pfn 0x3: "
            r"refcount 0, mapcount or type 0xffffffff, wrong flags reserved",
        ):
            buddy.free(3)

    def test_reserved_2_4(self) -> None:
        """``if (!PageReserved(page) && put_page_testzero(page))``: nothing happens."""
        buddy = booted(TinyMap(range(8)), (Range(0, 2), Range(4, 8)), small("2.4", 4))
        before = dict(words(buddy).words)
        buddy.free(3)
        assert words(buddy).words == before

    @pytest.mark.parametrize("name", ["6.12", "7.2"])
    def test_reserved_silently(self, name: str) -> None:
        buddy = booted(TinyMap(range(8)), (Range(0, 2), Range(4, 8)), small(name, 4))
        buddy.free(3)
        assert buddy.free_lists(0)[0] == (3,)

    @pytest.mark.parametrize(("pfn", "word", "value", "said"), [
        (2, 24, 0, "pfn 0x2: refcount 0, mapcount or type 0x0, wrong flags none"),
        (3, 24, 0xFFFFFDFF, "pfn 0x3: refcount 0, mapcount or type 0xfffffdff"),
        (3, 28, 1, "pfn 0x3: refcount 1,"),
        (3, 0, 0x21, "pfn 0x3: refcount 0, mapcount or type 0xffffffff, wrong flags locked active"),
    ])  # fmt: skip
    def test_not_idle(self, pfn: int, word: int, value: int, said: str) -> None:
        """Every page of the block is looked at."""
        buddy = tiny("6.1", 4, 3)
        assert [buddy.alloc(1), buddy.alloc(1)] == [0, 2]
        buddy.mem_map.write(buddy.mem_map.pfn_to_page(pfn), word, value)
        with pytest.raises(KernelBug, match=f"bad page state of {said}"):
            buddy.free(2, 1)

    def test_allowed_flags(self) -> None:
        """Flags that only PAGE_FLAGS_CHECK_AT_PREP names are no fault at free."""
        buddy = tiny("6.1", 4, 3)
        assert buddy.alloc(0) == 0
        buddy.mem_map.write(buddy.mem_map.pfn_to_page(0), 0, flag(buddy.era, "referenced"))
        buddy.free(0)
        assert buddy.free_lists(0)[2] == (0,)

    @pytest.mark.parametrize("name", ["2.4", *MARKED])
    def test_outside_the_zone(self, name: str) -> None:
        """A page behind the zone, of the last block, that somebody thinks is his."""
        buddy = tiny(name, 13, debug_vm=True)
        page = buddy.mem_map.pfn_to_page(13)
        buddy.pages.initialise(page, 0, 1, 0)
        with pytest.raises(
            KernelBug, match=r"bad_range\(zone, page\)\): pfn 0xd is not in the zone that it names, NORMAL"
        ):
            buddy.free(13)

    @pytest.mark.parametrize("name", MARKED)
    def test_outside_the_zone_silently(self, name: str) -> None:
        """It merges with the last page, and belongs to the zone from now on: the block at 12 is two pages."""
        buddy = tiny(name, 13)
        page = buddy.mem_map.pfn_to_page(13)
        buddy.pages.initialise(page, 0, 1, 0)
        buddy.free(13)
        assert buddy.free_lists(0) == ((), (12,), (8,), (0,))

    def test_the_zone_is_the_page_s_own_word(self) -> None:
        """page_zone(): a page with wrong zone bits goes to a wrong zone, and bad_range() notices only then."""
        zones = (ZoneSpan("NORMAL", 0, 8), ZoneSpan("HIGHMEM", 8, 16))
        buddy = booted(TinyMap(range(16)), (Range(0, 16),), small("6.1", 4), zones=zones)
        assert buddy.alloc(0, 0) == 0
        buddy.mem_map.write(buddy.mem_map.pfn_to_page(0), 0, 1 << 30)
        buddy.free(0)
        assert buddy.free_lists(1) == ((0,), (), (), (8,))
        assert buddy.free_lists(0) == ((1,), (2,), (4,), ())

    @pytest.mark.parametrize(("name", "debug_vm"), [("2.6.18", False), *((name, True) for name in MARKED)])
    def test_buddy_that_is_held(self, name: str, debug_vm: bool) -> None:
        buddy = tiny(name, 2, 2, debug_vm=debug_vm)
        buddy.alloc(0)
        buddy.pages.set_refcount(buddy.mem_map.pfn_to_page(1), 3)
        with pytest.raises(
            KernelBug, match=r"page_count\(buddy\) != 0\): pfn 0x1 is marked free, but 3 hold it"
        ):
            buddy.free(0)

    @pytest.mark.parametrize("name", ["2.6.24", "2.6.32", *SINCE_5_10])
    def test_buddy_that_is_held_silently(self, name: str) -> None:
        buddy = tiny(name, 2, 2)
        buddy.alloc(0)
        buddy.pages.set_refcount(buddy.mem_map.pfn_to_page(1), 3)
        buddy.free(0)
        assert buddy.free_lists(0) == ((), (0,))


class TestSplitChecks:
    @pytest.mark.parametrize("name", ["2.4", *MARKED])
    def test_half_in_another_zone(self, name: str) -> None:
        """expand(): BUG_ON(bad_range(zone, &page[size]))."""
        buddy = tiny(name, 2, 2, debug_vm=True)
        kept = 0 if name == "2.4" else 1
        page = buddy.mem_map.pfn_to_page(kept)
        buddy.pages.set_flags(page, buddy.pages.flags(page) | 1 << 30)
        with pytest.raises(KernelBug, match=f"pfn {kept:#x} is not in the zone that it names, NORMAL"):
            buddy.alloc(0)

    def test_not_in_an_ordinary_build(self) -> None:
        buddy = tiny("6.1", 2, 2)
        page = buddy.mem_map.pfn_to_page(1)
        buddy.pages.set_flags(page, 1 << 30)
        assert buddy.alloc(0) == 0

    def test_every_page_that_is_handed_out(self) -> None:
        buddy = tiny("6.1", 4, 3)
        buddy.pages.set_refcount(buddy.mem_map.pfn_to_page(3), 1)
        assert buddy.alloc(1) == 0
        with pytest.raises(
            KernelBug, match=r"check_new_page\(page\)\): bad page state of pfn 0x3: refcount 1,"
        ):
            buddy.alloc(1)


class TestStaleTail:
    """Until 6.12 nobody initialises the struct pages behind the last page of a FLATMEM map (FACTS C.1)."""

    @staticmethod
    def buddy(*, holes_in_zone: bool) -> Buddy:
        """Pfn 7 is no RAM, but a warm boot left its struct page looking like a free block of order 0."""
        mem_map = TinyMap(range(8), valid=range(7))
        buddy = Buddy(
            mem_map,
            (ZoneSpan("NORMAL", 0, 7),),
            era=small("6.1", 4),
            flags=FLAGS,
            holes_in_zone=holes_in_zone,
        )
        page = mem_map.pfn_to_page(7)
        buddy.pages.initialise(page, 0, 0, 0)
        mem_map.write(page, 24, 0xFFFFFF7F)
        buddy.lists.initialise(page)
        buddy.memmap_init()
        buddy.free_all((Range(0, 7),))
        return buddy

    def test_memory_that_is_not_there(self) -> None:
        buddy = self.buddy(holes_in_zone=False)
        assert buddy.free_lists(0) == ((), (), (), (0,))
        assert buddy.alloc(3) == 0  # pfn 7 included

    def test_pfn_valid_would_have_known(self) -> None:
        buddy = self.buddy(holes_in_zone=True)
        assert buddy.free_lists(0) == ((6,), (4,), (0,), ())
        assert buddy.checks.refused == 1


def test_word() -> None:
    """The type of a page that has none is what memmap_init() writes."""
    buddy = tiny("6.1", 1, 1)
    assert buddy.mem_map.read(buddy.mem_map.pfn_to_page(0), 24) == WORD - 0x80


def test_era_is_asked_for_its_orders() -> None:
    era = replace(eras.named("6.1"), max_order=1)
    assert booted(TinyMap(range(4)), (Range(0, 4),), era).free_lists(0) == ((0, 1, 2, 3),)

"""What the buddy allocator hands out: from which zone, of which order, which half of a block, and in what state."""

from __future__ import annotations

import pytest
from buddies import FLAGS, MARKED, TinyMap, booted, small, tiny

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.pages.flags_layout import FlagsLayout
from kvmtools.model.pages.struct_page import members
from kvmtools.records import Range, ZoneSpan


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

"""The buddy allocator at boot: what the boot allocator hands over, in which order, and what struct pages say then."""

from __future__ import annotations

import pytest
from buddies import FLAGS, SINCE_5_10, TinyMap, booted, small, tiny
from every_era import altered

from kvmtools.model import eras
from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.pages.struct_page import WORD, flag
from kvmtools.records import Range, ZoneSpan


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

    def test_7_2_goes_on_to_the_end_of_the_last_block_and_no_further(self) -> None:
        mem_map = TinyMap(range(16))
        Buddy(mem_map, (ZoneSpan("NORMAL", 0, 3),), era=small("7.2", 3), flags=FLAGS).memmap_init()
        assert {mem_map.page_to_pfn(address) for address in mem_map.words} == set(range(4))


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
    era = altered("6.1", max_order=1)
    assert booted(TinyMap(range(4)), (Range(0, 4),), era).free_lists(0) == ((0, 1, 2, 3),)

"""What the buddy allocator's checks notice, and what becomes of the free lists where they do not look."""

from __future__ import annotations

import pytest
from buddies import MARKED, SINCE_5_10, TinyMap, booted, small, tiny

from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pages.struct_page import flag
from kvmtools.records import Range, ZoneSpan


def words(buddy: Buddy) -> TinyMap:
    assert isinstance(buddy.mem_map, TinyMap)
    return buddy.mem_map


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

    @pytest.mark.parametrize(
        ("name", "debug_vm"), [("2.6.18", False), ("2.6.24", False), *((name, True) for name in MARKED)]
    )
    def test_buddy_that_is_held(self, name: str, debug_vm: bool) -> None:
        buddy = tiny(name, 2, 2, debug_vm=debug_vm)
        buddy.alloc(0)
        buddy.pages.set_refcount(buddy.mem_map.pfn_to_page(1), 3)
        with pytest.raises(
            KernelBug, match=r"page_count\(buddy\) != 0\): pfn 0x1 is marked free, but 3 hold it"
        ):
            buddy.free(0)

    @pytest.mark.parametrize("name", ["2.6.32", *SINCE_5_10])
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

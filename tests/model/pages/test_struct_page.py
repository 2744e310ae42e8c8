"""``struct page``: offsets, flags and marks of each era, from the headers (FACTS C.3 to C.5)."""

from __future__ import annotations

import pytest
from buddies import FLAGS, SPARSE_FLAGS, TinyMap

from kvmtools.model import eras
from kvmtools.model.pages.flags_layout import FlagsLayout
from kvmtools.model.pages.struct_page import (
    WORD,
    Mark,
    StructPages,
    buddy_mark,
    flag,
    flag_names,
    mask,
    members,
    page_types,
)

NEWEST_FOUR = ("5.10", "6.1", "6.12", "7.2")
PG_BUDDY = ("2.6.18", "2.6.24", "2.6.32")


class TestMembers:
    def test_2_4(self) -> None:
        """include/linux/mm.h: list, mapping, index, next_hash (8 + 3 * 4 bytes), then count, flags."""
        found = members(eras.named("2.4"))
        assert (found.next, found.refcount, found.flags, found.mapcount) == (0, 20, 24, None)

    @pytest.mark.parametrize("name", PG_BUDDY)
    def test_2_6(self, name: str) -> None:
        """flags, _count, _mapcount, private, mapping, index, lru: a word each before the two of lru."""
        found = members(eras.named(name))
        assert (found.flags, found.refcount, found.mapcount, found.next) == (0, 4, 8, 24)

    @pytest.mark.parametrize("name", NEWEST_FOUR)
    def test_since_5_10(self, name: str) -> None:
        """FACTS C.3, measured in a running 6.1: flags 0, lru 4, private 20, _mapcount 24, _refcount 28."""
        found = members(eras.named(name))
        assert (found.flags, found.refcount, found.mapcount, found.next) == (0, 28, 24, 4)

    @pytest.mark.parametrize("name", eras.NAMES)
    def test_all_of_it_lies_within(self, name: str) -> None:
        era = eras.named(name)
        found = members(era)
        words = [found.flags, found.refcount, found.next, found.next + 4]
        words += [] if found.mapcount is None else [found.mapcount]
        mark = buddy_mark(era)
        words += [] if mark is None else [mark.private]
        assert len(set(words)) == len(words)
        assert max(words) + 4 <= era.page_struct_size


class TestFlags:
    def test_flag(self) -> None:
        """PG_reserved: 14 in 2.4.18, 10 in 2.6.18, 12 in 6.1, 13 in 6.12 (FACTS C.4)."""
        found = {name: flag(eras.named(name), "reserved") for name in ("2.4", "2.6.18", "6.1", "6.12")}
        assert found == {"2.4": 1 << 14, "2.6.18": 1 << 10, "6.1": 1 << 12, "6.12": 1 << 13}

    def test_no_such_flag(self) -> None:
        with pytest.raises(ValueError, match="tuple"):
            flag(eras.named("6.12"), "slab")

    def test_names_from_the_lowest_bit(self) -> None:
        assert flag_names(eras.named("6.1"), 0x4008003E) == (
            "referenced",
            "uptodate",
            "dirty",
            "lru",
            "active",
            "swapbacked",
        )
        assert flag_names(eras.named("6.1"), 0) == ()

    @pytest.mark.parametrize(
        ("name", "names"),
        [
            ("2.4", "locked lru active"),
            # free_pages_check(), 2.6.18: a list in the code
            ("2.6.18", "lru private locked active reclaim slab swapcache writeback reserved buddy"),
            # 2.6.24: the same without reclaim
            ("2.6.24", "lru private locked active slab swapcache writeback reserved buddy"),
            (
                "2.6.32",
                "lru locked private private_2 buddy writeback reserved slab swapcache active unevictable mlocked",
            ),
            # PAGE_FLAGS_CHECK_AT_FREE, page-flags.h
            ("5.10", "lru locked private private_2 writeback reserved slab active unevictable mlocked"),
            ("6.1", "lru locked private private_2 writeback reserved slab active unevictable mlocked"),
            ("6.12", "lru locked private private_2 writeback reserved active unevictable mlocked"),
            ("7.2", "lru locked private private_2 writeback reserved active unevictable mlocked"),
        ],
    )
    def test_checked_at_free(self, name: str, names: str) -> None:
        era = eras.named(name)
        assert sorted(flag_names(era, mask(era, era.checked_at_free))) == sorted(names.split())


class TestMark:
    """What the three words of FACTS C.5 look like before, while and after a page heads a free block."""

    def test_2_4_has_none(self) -> None:
        assert buddy_mark(eras.named("2.4")) is None

    @pytest.mark.parametrize("name", PG_BUDDY)
    def test_flag(self, name: str) -> None:
        words = TinyMap({1})
        page = words.pfn_to_page(1)
        words.write(page, 0, 0x40000400)
        mark = self.mark(name)
        assert mark.order(words, page) is None
        mark.set(words, page, 5)
        assert (words.read(page, 0), words.read(page, 12)) == (0x40080400, 5)
        assert mark.order(words, page) == 5
        mark.clear(words, page)
        assert (words.read(page, 0), words.read(page, 12)) == (0x40000400, 0)
        assert mark.order(words, page) is None

    @pytest.mark.parametrize(
        ("name", "marked"), [*zip(NEWEST_FOUR, [0xFFFFFF7F] * 2 + [0xF0000000] * 2, strict=True)]
    )
    def test_page_type(self, name: str, marked: int) -> None:
        words = TinyMap({1})
        page = words.pfn_to_page(1)
        words.write(page, 24, WORD)
        mark = self.mark(name)
        assert mark.order(words, page) is None
        mark.set(words, page, 3)
        assert (words.read(page, 24), words.read(page, 20)) == (marked, 3)
        assert mark.order(words, page) == 3
        mark.clear(words, page)
        assert (words.read(page, 24), words.read(page, 20)) == (WORD, 0)

    @pytest.mark.parametrize(
        ("name", "word", "free"),
        [
            ("6.1", 0xFFFFFF7F, True),
            ("6.1", 0xFFFFFF7E, True),  # only the base and its own bit are looked at
            ("6.1", 0xFFFFFFFF, False),
            ("6.1", 0xFFFFFDFF, False),  # a page table
            ("6.1", 0x7FFFFF7F, False),  # a mapcount, however large, is no type
            ("6.1", 0, False),  # struct pages that nobody initialised
            ("6.12", 0xF0000000, True),
            ("6.12", 0xF0ABCDEF, True),
            ("6.12", 0xF2000000, False),
            ("6.12", 0xFFFFFFFF, False),
            ("6.12", 0x70000000, False),
            ("6.12", 0, False),
            ("2.6.18", 1 << 19, True),
            ("2.6.18", ~(1 << 19) & WORD, False),
        ],
    )
    def test_on(self, name: str, word: int, free: bool) -> None:
        assert self.mark(name).on(word) is free

    def test_other_type_bits_stay(self) -> None:
        """__SetPageBuddy clears one bit, and __ClearPageBuddy sets it."""
        words = TinyMap({0})
        page = words.pfn_to_page(0)
        words.write(page, 24, 0xF00000A5)
        self.mark("6.1").set(words, page, 0)
        assert words.read(page, 24) == 0xF0000025
        self.mark("6.1").clear(words, page)
        assert words.read(page, 24) == 0xF00000A5

    @staticmethod
    def mark(name: str) -> Mark:
        found = buddy_mark(eras.named(name))
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("name", "word", "types"),
    [
        ("2.4", WORD, ()),
        ("2.6.32", 0xFFFFFF7F, ()),
        ("5.10", 0xFFFFFF7F, ("buddy",)),
        ("5.10", 0xFFFFFEFF, ("offline",)),
        ("5.10", 0xFFFFFDFF, ("kmemcg",)),
        ("5.10", 0xFFFFFBFF, ("table",)),
        ("5.10", 0xFFFFF7FF, ("guard",)),
        ("6.1", 0xFFFFFF7F, ("buddy",)),
        ("6.1", 0xFFFFFEFF, ("offline",)),
        ("6.1", 0xFFFFFDFF, ("table",)),
        ("6.1", 0xFFFFFBFF, ("guard",)),
        ("6.1", 0xFFFFFD7F, ("buddy", "table")),
        ("6.1", WORD, ()),
        ("6.1", 0, ()),
        ("6.1", 0x7FFFFF7F, ()),
        ("6.1", 0xEFFFFF7F, ()),
        ("6.12", 0xF0000000, ("buddy",)),
        ("6.12", 0xF1000000, ("offline",)),
        ("6.12", 0xF2000000, ("table",)),
        ("6.12", 0xF3000000, ("guard",)),
        ("6.12", 0xF4000000, ("hugetlb",)),
        ("6.12", 0xF5000000, ("slab",)),
        ("6.12", 0xF6000000, ("zsmalloc",)),
        ("6.12", 0xF7000000, ("unaccepted",)),
        ("6.12", 0xF8000000, ()),
        ("7.2", 0xF8000000, ("large_kmalloc",)),
        ("7.2", 0xF2000007, ("table",)),
        ("7.2", WORD, ()),
        ("7.2", 3, ()),
    ],
)
def test_page_types(name: str, word: int, types: tuple[str, ...]) -> None:
    """The PG_* and PGTY_* of page-flags.h; FACTS C.5."""
    assert page_types(eras.named(name), word) == types


class TestStructPages:
    @staticmethod
    def one(name: str, layout: FlagsLayout = FLAGS) -> tuple[StructPages, TinyMap, int]:
        words = TinyMap({7})
        return StructPages(words, eras.named(name), layout), words, words.pfn_to_page(7)

    def test_initialise(self) -> None:
        """FACTS C.1, measured: a reserved page of 6.1 has flags 0x1000 in zone 0, refcount 1, mapcount -1."""
        pages, words, page = self.one("6.1")
        words.write(page, 0, 0xC0000FFF)
        pages.initialise(page, 0, 1, 0x1000)
        assert [words.read(page, offset) for offset in (0, 24, 28)] == [0x1000, 0xFFFFFFFF, 1]
        pages.initialise(page, 2, 1, 0x1000)
        assert pages.flags(page) == 0x80001000
        assert pages.zone(page) == 2

    def test_section_stays(self) -> None:
        pages, words, page = self.one("6.1", SPARSE_FLAGS)
        words.write(page, 0, 0xA5C00003)
        pages.initialise(page, 1, 1, 0)
        assert pages.flags(page) == 0xA5400000
        assert pages.zone(page) == 1

    def test_2_4_counts_no_mappings(self) -> None:
        pages, words, page = self.one("2.4")
        pages.initialise(page, 1, 0, 1 << 14)
        assert words.words == {page + 24: 0x40004000, page + 20: 0}
        assert pages.mapcount(page) == WORD

    def test_mapcount(self) -> None:
        pages, words, page = self.one("2.6.18")
        words.write(page, 8, 4)
        assert pages.mapcount(page) == 4

    @pytest.mark.parametrize(
        ("count", "word"), [(0, 0), (1, 1), (0x7FFFFFFF,) * 2, (-1, WORD), (-0x80000000, 0x80000000)]
    )
    def test_refcount_is_signed(self, count: int, word: int) -> None:
        pages, words, page = self.one("6.1")
        pages.set_refcount(page, count)
        assert words.read(page, 28) == word
        assert pages.refcount(page) == count

    def test_flags(self) -> None:
        pages, words, page = self.one("2.4")
        pages.set_flags(page, 0x12345678)
        assert words.read(page, 24) == pages.flags(page) == 0x12345678


BYTES = "buddy offline table guard hugetlb slab zsmalloc unaccepted"


@pytest.mark.parametrize(("name", "types"), [("6.12", BYTES), ("7.2", f"{BYTES} large_kmalloc")])
def test_every_type_that_is_a_byte(name: str, types: str) -> None:
    """page-flags.h, enum pagetype: from 0xf0 on, without a gap."""
    assert dict(eras.named(name).page_types) == {word: 0xF0 + n for n, word in enumerate(types.split())}


@pytest.mark.parametrize(
    ("name", "types"),
    [("5.10", "buddy offline kmemcg table guard"), ("6.1", "buddy offline table guard")],
)
def test_every_type_that_is_a_bit(name: str, types: str) -> None:
    """page-flags.h: 0x80 and the bits above it; 5.12 took PG_kmemcg away, and what came after it moved down."""
    assert dict(eras.named(name).page_types) == {word: 0x80 << n for n, word in enumerate(types.split())}

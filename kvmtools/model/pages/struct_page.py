"""``struct page``: where its members lie, what its flags are called, how the head of a free block is marked.

Source: include/linux/mm.h (2.4.18, 2.6.18), include/linux/mm_types.h and page-flags.h (2.6.24, 5.10, 6.1, 6.12, 7.2),
for a build without MEMCG.  Where page->flags keeps zone and section
is :class:`kvmtools.model.pages.flags_layout.FlagsLayout`.

Four ways to say "a free block of order n begins here" followed each other:

=================  ==================================================================================
``bitmap``         2.4: nothing in the page; one bit per pair of buddies says that one of them is free
``PG_buddy``       2.6: a flag; the order is in ``private``
``page_type bit``  5.10, 6.1: a cleared bit of what is otherwise ``_mapcount`` -1; the order as before
``page_type byte`` 6.12, 7.2: the top byte of the same word; the order as before
=================  ==================================================================================
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from kvmtools.model.eras import Era
from kvmtools.model.eras.dialects import BuddyMark
from kvmtools.model.pages.flags_layout import FlagsLayout

WORD = 0xFFFFFFFF
"""An ``int`` of -1: the ``_mapcount`` of a page that nobody maps, the ``page_type`` of a page that has none."""


class Words(Protocol):
    """What is needed of a mem_map here: 32-bit words of a struct page, which is named by its virtual address."""

    def read(self, page: int, offset: int) -> int: ...

    def write(self, page: int, offset: int, value: int) -> None: ...


class Members(NamedTuple):
    """Byte offsets of what the page allocator reads and writes; each is a 32-bit word."""

    flags: int
    refcount: int
    next: int
    """``list`` (2.4), ``lru``, ``buddy_list`` (6.1): the free list's links, ``prev`` behind ``next``."""
    mapcount: int | None = None
    """``_mapcount``, since 5.10 also ``page_type``; 2.4 does not count mappings."""
    private: int | None = None
    """Since 2.6 the order of a free block."""


class Mark(NamedTuple):
    """A value in one word that says "free block", tested under one mask and written under another; the order apart."""

    offset: int
    private: int
    """Offset of ``private``, where the order is."""
    tested: int
    value: int
    written: int
    cleared: int

    def on(self, word: int) -> bool:
        """``PageBuddy``, of the word at ``offset``."""
        return word & self.tested == self.value

    def order(self, words: Words, page: int) -> int | None:
        """The order of the free block that begins with this page; ``None`` if none does."""
        return words.read(page, self.private) if self.on(words.read(page, self.offset)) else None

    def set(self, words: Words, page: int, order: int) -> None:
        """``set_buddy_order`` (``set_page_order`` in 2.6)."""
        words.write(page, self.private, order)
        words.write(
            page, self.offset, words.read(page, self.offset) & ~self.written | self.value & self.written
        )

    def clear(self, words: Words, page: int) -> None:
        """``__ClearPageBuddy`` and ``set_page_private(page, 0)`` (``rmv_page_order`` in 2.6)."""
        words.write(page, self.offset, words.read(page, self.offset) & ~self.written | self.cleared)
        words.write(page, self.private, 0)


_PAGE_TYPE_BASE = 0xF0000000
"""``_mapcount`` of a mapped page never comes near it: the word holds a type if its top four bits are set."""


def members(era: Era) -> Members:
    """The offsets in an ordinary build of ``era``."""
    return Members(**dict(era.page_members))


def flag(era: Era, name: str) -> int:
    """``1 << PG_name``.

    :raises ValueError: if the era has no such flag
    """
    return 1 << era.page_flags.index(name)


def flag_names(era: Era, flags: int) -> tuple[str, ...]:
    """The flags that are set, lowest bit first."""
    return tuple(name for bit, name in enumerate(era.page_flags) if flags >> bit & 1)


def mask(era: Era, names: tuple[str, ...] | None) -> int:
    """These flags as one number; ``None`` means every flag that there is."""
    return sum(flag(era, name) for name in (era.page_flags if names is None else names))


def buddy_mark(era: Era) -> Mark | None:
    """How ``era`` marks the head of a free block; ``None`` if it does so elsewhere."""
    if era.buddy_mark is BuddyMark.BITMAP:
        return None
    at = members(era)
    assert at.private is not None
    assert at.mapcount is not None
    if era.buddy_mark is BuddyMark.PG_BUDDY:
        bit = flag(era, "buddy")
        return Mark(at.flags, at.private, bit, bit, bit, 0)
    buddy = dict(era.page_types)["buddy"]
    if era.buddy_mark is BuddyMark.PAGE_TYPE_BIT:
        return Mark(at.mapcount, at.private, _PAGE_TYPE_BASE | buddy, _PAGE_TYPE_BASE, buddy, buddy)
    return Mark(at.mapcount, at.private, 0xFF000000, buddy << 24, WORD, WORD)


def page_types(era: Era, word: int) -> tuple[str, ...]:
    """The types that ``word``, the ``page_type`` of a page, gives it; a page that is mapped or idle has none.

    Until 6.1 types are bits and could be combined, though no page ever has two.
    """
    if era.buddy_mark is BuddyMark.PAGE_TYPE_BYTE:
        return tuple(name for name, byte in era.page_types if word >> 24 == byte)
    if word & _PAGE_TYPE_BASE != _PAGE_TYPE_BASE:
        return ()
    return tuple(name for name, bit in era.page_types if not word & bit)


class StructPages:
    """The struct pages of a mem_map, by the kernel's names for what is in them; ``page`` is a virtual address.

    :param layout: where page->flags keeps the zone
    """

    def __init__(self, words: Words, era: Era, layout: FlagsLayout) -> None:
        self._words = words
        self._members = members(era)
        self._layout = layout

    def flags(self, page: int) -> int:
        """``page->flags``, zone and section included."""
        return self._words.read(page, self._members.flags)

    def zone(self, page: int) -> int:
        """``page_zonenum``."""
        return self._layout.zone(self.flags(page))

    def refcount(self, page: int) -> int:
        """``page_count``: how many hold the page; negative after one put too many."""
        count = self._words.read(page, self._members.refcount)
        return count - (count >> 31 << 32)

    def mapcount(self, page: int) -> int:
        """``_mapcount`` or ``page_type``, unsigned; :data:`WORD` if nobody maps the page."""
        if self._members.mapcount is None:
            return WORD
        return self._words.read(page, self._members.mapcount)

    def set_flags(self, page: int, flags: int) -> None:
        """Write ``page->flags`` whole."""
        self._words.write(page, self._members.flags, flags)

    def set_refcount(self, page: int, count: int) -> None:
        """``set_page_count``."""
        self._words.write(page, self._members.refcount, count & WORD)

    def initialise(self, page: int, zone: int, refcount: int, flags: int) -> None:
        """``__init_single_page``: a page of that zone that nobody maps; its section stays what it is."""
        zone_end = self._layout.zone_shift + self._layout.zone_width
        section = self.flags(page) >> zone_end << zone_end
        self.set_flags(page, section | zone << self._layout.zone_shift | flags)
        self.set_refcount(page, refcount)
        if self._members.mapcount is not None:
            self._words.write(page, self._members.mapcount, WORD)

"""Words for what kernels do in one of a few ways: each way by its name, with what it means."""

from __future__ import annotations

from enum import StrEnum


class Reservetop(StrEnum):
    """What ``reservetop=N`` does."""

    UNKNOWN = "none"
    EXACT = "exact"
    """It lowers ``FIXADDR_TOP`` by N."""
    EXACT_AND_VMALLOC = "exact and vmalloc"
    """It takes N from lowmem, too."""
    ROUNDED = "rounded"
    """It lowers ``FIXADDR_TOP`` to the next boundary of the page directory."""


class VmallocOption(StrEnum):
    """What ``vmalloc=N`` reserves."""

    UNKNOWN = "none"
    EXACT = "exact"
    PLUS_OFFSET = "plus offset"
    """N and the hole below it."""


class PtiOption(StrEnum):
    """What decides about page-table isolation."""

    UNKNOWN = "none"
    BEFORE_NOPTI = "before nopti"
    """``pti=``; only without it ``nopti`` and ``mitigations=off``."""
    BELOW_MITIGATIONS = "below mitigations"
    """``mitigations=off``; only without it the last of ``pti=`` and ``nopti``."""
    ABOVE_MITIGATIONS = "above mitigations"
    """The last of ``pti=`` and ``nopti``; only without them ``mitigations=off``."""


class RodataOption(StrEnum):
    """How ``rodata=`` is read."""

    UNKNOWN = "none"
    LETTERS = "letters"
    """By its first letters."""
    WORDS = "words"
    """As one of two words."""


class FixmapBootStart(StrEnum):
    """Where the boot-time slots of the fixmap begin."""

    NEXT = "next"
    """With the next slot."""
    MULTIPLE = "multiple"
    """At the next multiple of their number."""
    ONE_TABLE = "one table"
    """There only if they would not be in one page table otherwise."""


class PkmapBelow(StrEnum):
    """What the pkmap area is placed under."""

    FIXED = "fixed"
    """An address that is a constant."""
    FIXMAP = "fixmap"
    LDT = "ldt"


class MaxmemBelow(StrEnum):
    """From where ``MAXMEM`` is counted down."""

    TOP = "top"
    """The end of the address space."""
    VMALLOC_END = "vmalloc_end"


class ImageProtection(StrEnum):
    """What the kernel image's own pages get."""

    NONE = "none"
    LARGE_PAGES = "large pages"
    """Exec permission by large pages that hold any of its text."""
    SECTIONS = "sections"
    """Permissions section by section."""


class PageAddress(StrEnum):
    """Where the address of a highmem page is kept."""

    MEMBER = "member"
    """In ``struct page``."""
    POOL = "pool"
    """In hash entries that come from a pool."""
    INDEXED = "indexed"
    """In hash entries, one for each slot."""


class KmapSlotChoice(StrEnum):
    """How a slot of ``kmap_atomic`` or ``kmap_local`` is chosen."""

    TYPED = "typed"
    """By the caller, from ``enum km_type``."""
    PER_CPU_STACK = "per-CPU stack"
    """By depth, counted for each CPU."""
    PER_TASK = "per-task"
    """By depth, counted for each task."""


class HoleZone(StrEnum):
    """To which zone a page belongs that is not RAM."""

    SPANNING = "spanning"
    """To the one that spans it."""
    FOLLOWING = "following"
    """To that of the RAM that follows."""


class BuddyMark(StrEnum):
    """How the head of a free block is marked."""

    BITMAP = "bitmap"
    """In a bitmap for each order."""
    PG_BUDDY = "PG_buddy"
    """By a flag."""
    PAGE_TYPE_BIT = "page_type bit"
    """By a cleared bit of ``page_type``."""
    PAGE_TYPE_BYTE = "page_type byte"
    """By the top byte of ``page_type``."""

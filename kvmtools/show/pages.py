"""One ``struct page`` in full, for a person and for a program; used by ``vtop`` and ``memmap``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from kvmtools.records import PAGE_SHIFT
from kvmtools.show.gaps import UNKNOWN, Gaps
from kvmtools.show.tables import hexadecimal

PAGE_POINTERS = ("page", "mapping", "lru_next", "lru_prev")
_WORDS = ("flags", "page_type", "private", "index")


def page_json(page: Any) -> dict[str, Any]:
    """A :class:`kvmtools.Page` as data, addresses and raw words as hexadecimal strings; ``missing`` says of what is
    null why this kernel has it not.
    """
    gaps = Gaps()
    shown = {name: gaps.get(page, name) for name in vars(page)}
    for name in (*PAGE_POINTERS, *_WORDS):
        shown[name] = hexadecimal(shown[name])
    return {
        "pfn": shown.pop("pfn"),
        "physical": hexadecimal(page.pfn << PAGE_SHIFT, 9),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in shown.items()},
        **gaps.document(),
    }


def page_lines(page: Any) -> Iterator[str]:
    """The page in a few lines, what matters most first."""
    pfn, gaps = page.pfn, Gaps()

    def word(name: str) -> str:
        return _spelled(gaps.get(page, name))

    yield f"pfn {pfn:#x} ({pfn})  physical {pfn << PAGE_SHIFT:#x}  struct page {page.page:#x}"
    yield f"flags {_spelled(gaps.get(page, 'flags'), 8)}  {gaps.read(partial(_flags, page), UNKNOWN)}"
    yield "  ".join(_place(page, gaps))
    yield (
        f"mapping {word('mapping')}{' (anonymous)' if gaps.get(page, 'anonymous') else ''}  index {word('index')}"
        f"  private {word('private')}  lru {word('lru_next')} {word('lru_prev')}"
    )
    yield from gaps.lines()


def page_state(page: Any) -> str:
    """One or two words: what the page is doing."""
    if page.buddy_order is not None:
        return f"free, head of a block of order {page.buddy_order}"
    if page.type_names:
        return " ".join(page.type_names)
    if "PG_reserved" in page.flag_names:
        return "reserved"
    if "PG_slab" in page.flag_names:
        return "slab"
    if page.compound_head is not None:
        return f"tail of the compound page at pfn {page.compound_head:#x}"
    if page.refcount == 0:
        return "free (inside a block, or on a per-CPU list)"
    return "in use"


def _spelled(word: int | None, digits: int = 0) -> str:
    return hexadecimal(word, digits) or UNKNOWN


def _flags(page: Any) -> str:
    return " ".join(name.removeprefix("PG_") for name in page.flag_names) or "no flag"


def _place(page: Any, gaps: Gaps) -> Iterator[str]:
    zone, refcount = gaps.cells(page, "zone refcount")
    if (node := gaps.get(page, "node")) is not None:
        yield f"node {node}"
    yield f"zone {zone}"
    if (section := gaps.get(page, "section")) is not None:
        yield f"section {section}"
    yield f"refcount {refcount}"
    yield gaps.read(partial(_mapcount, page), UNKNOWN)
    yield gaps.read(partial(page_state, page), UNKNOWN)


def _mapcount(page: Any) -> str:
    """The word is either a mapcount or a type (include/linux/mm_types.h)."""
    return f"page_type {page.page_type:#010x}" if page.mapcount is None else f"mapcount {page.mapcount}"

"""One ``struct page`` in full, for a person and for a program; used by ``vtop`` and ``memmap``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmtools.records import PAGE_SHIFT
from kvmtools.show.tables import hexadecimal

PAGE_POINTERS = ("page", "mapping", "lru_next", "lru_prev")
_WORDS = ("flags", "page_type", "private", "index")


def page_json(page: Any) -> dict[str, Any]:
    """A :class:`kvmtools.Page` as data, addresses and raw words as hexadecimal strings."""
    shown = dict(vars(page))
    for name in (*PAGE_POINTERS, *_WORDS):
        shown[name] = hexadecimal(shown[name])
    return {
        "pfn": shown.pop("pfn"),
        "physical": hexadecimal(page.pfn << PAGE_SHIFT, 9),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in shown.items()},
    }


def page_lines(page: Any) -> Iterator[str]:
    """The page in a few lines, what matters most first."""
    pfn = page.pfn
    yield f"pfn {pfn:#x} ({pfn})  physical {pfn << PAGE_SHIFT:#x}  struct page {page.page:#x}"
    yield f"flags {page.flags:#010x}  {' '.join(_flags(page)) or 'no flag'}"
    yield "  ".join(_place(page))
    yield (
        f"mapping {page.mapping:#x}{' (anonymous)' if page.anonymous else ''}  index {page.index:#x}"
        f"  private {page.private:#x}  lru {page.lru_next:#x} {page.lru_prev:#x}"
    )


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


def _flags(page: Any) -> Iterator[str]:
    for name in page.flag_names:
        yield name.removeprefix("PG_")


def _place(page: Any) -> Iterator[str]:
    if page.node is not None:
        yield f"node {page.node}"
    yield f"zone {page.zone}"
    if page.section is not None:
        yield f"section {page.section}"
    yield f"refcount {page.refcount}"
    # The word is either a mapcount or a type (include/linux/mm_types.h).
    yield (f"page_type {page.page_type:#010x}" if page.mapcount is None else f"mapcount {page.mapcount}")
    yield page_state(page)

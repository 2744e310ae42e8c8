"""The head of a free block, era by era; the model's own allocator leaves none that looks otherwise."""

from __future__ import annotations

import pytest
from buddies import tiny

from kvmtools import model
from kvmtools.model import eras
from kvmtools.model.pages.free_head import FreeHead
from kvmtools.model.pages.struct_page import flag_names, mask


def head(era: str) -> FreeHead:
    return model.predict(model.configuration(era, memory=1 << 30)).free_head


def test_nobody_holds_it_and_it_is_aligned() -> None:
    assert head("6.1").refcount == 0
    assert head("6.1").alignment == tuple(1 << order for order in range(11))
    assert len(head("2.4").alignment) == eras.named("2.4").max_order


@pytest.mark.parametrize("era", ["2.6.32", "5.10", "6.1", "6.12", "7.2"])
def test_since_2_6_32_no_flag_stays(era: str) -> None:
    """But one of a page that failed, one that is told the host, and, while that was a flag, the mark itself."""
    mark = {"PG_buddy"} if era == "2.6.32" else set()
    assert (head(era).clear, head(era).spared) == (None, {"PG_hwpoison", "PG_reported"} | mark)


def test_before_that_these() -> None:
    """mm/page_alloc.c: rmqueue (2.4.16), prep_new_page (2.6.18); a page on a list has its mark, which goes before."""
    assert head("2.4").clear == {"PG_lru", "PG_active"}
    clear = head("2.6.18").clear
    assert clear is not None
    assert {"PG_locked", "PG_reserved", "PG_dirty", "PG_slab"} <= clear
    assert not clear & {"PG_buddy", "PG_referenced", "PG_uptodate"}


@pytest.mark.parametrize("name", eras.NAMES)
def test_the_allocator_leaves_such_heads(name: str) -> None:
    wanted, era, buddy = head(name), eras.named(name), tiny(name)
    pfn = buddy.alloc()
    assert pfn is not None
    page = buddy.mem_map.pfn_to_page(pfn)
    buddy.pages.set_flags(page, buddy.pages.flags(page) | mask(era, ("referenced", "uptodate", "dirty")))
    buddy.alloc(1)
    buddy.free(pfn)
    for order, heads in enumerate(buddy.free_lists(0)):
        for free in heads:
            page = buddy.mem_map.pfn_to_page(free)
            flags = {f"PG_{each}" for each in flag_names(era, buddy.pages.flags(page))}
            assert buddy.pages.refcount(page) == wanted.refcount
            assert free % wanted.alignment[order] == 0
            assert not flags - wanted.spared if wanted.clear is None else not flags & wanted.clear
    assert buddy.free_pages == 14

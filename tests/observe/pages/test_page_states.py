"""Every page has one state, and the counts are of the flags' zones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvmtools.observe.pages.memmap import MemMap, Piece
from kvmtools.observe.pages.page_flags import Field, FlagLayout
from kvmtools.observe.pages.page_states import STATES, count_states, page_states
from kvmtools.observe.pages.page_types import PageTypes

BASE, SIZE = 0xC100_0000, 32
OFFSETS = {"flags": 0, "lru": 4, "mapping": 12, "index": 16, "private": 20, "_mapcount": 24, "_refcount": 28}
RESERVED, SLAB, NORMAL, HIGHMEM = 1 << 12, 1 << 9, 0, 1 << 30
BUDDY, TABLE, NO_TYPE = 0xFFFF_FF7F, 0xFFFF_FDFF, 0xFFFF_FFFF


def memmap(*pages: dict[str, Any]) -> MemMap:
    """A mem_map of these pages; what a page does not say is 0, its type none."""
    words = np.zeros((SIZE // 4, len(pages)), np.uint32)
    for pfn, page in enumerate(pages):
        for name, value in {"_mapcount": NO_TYPE, **page}.items():
            words[OFFSETS[name] // 4, pfn] = value
    return MemMap(
        pieces=(Piece(0, len(pages), BASE, 0x100_0000),),
        page_size=SIZE,
        max_mapnr=len(pages),
        words=words,
        offsets=OFFSETS,
        layout=FlagLayout({"PG_slab": 9, "PG_reserved": 12}, {}, Field(30, 2), Field(30, 0), Field(32, 0)),
        types=PageTypes({"buddy": (0xF000_0080, 0xF000_0000), "table": (0xF000_0200, 0xF000_0000)}, -128),
        zone_names=("NORMAL", "HIGHMEM"),
    )


@pytest.mark.parametrize(
    ("page", "state"),
    [
        ({"flags": RESERVED, "_refcount": 1}, "reserved"),
        ({"flags": SLAB, "_refcount": 1, "mapping": 0xC300_0001}, "slab"),
        ({"_mapcount": TABLE, "_refcount": 1, "mapping": 0x1234}, "table"),
        ({"mapping": 0xC300_0001, "_refcount": 1, "_mapcount": 0}, "anonymous"),
        ({"mapping": 0xC300_0000, "_refcount": 1}, "cache"),
        ({"mapping": 0xC300_0000}, "other"),  # nobody holds it: the word is a leftover
        ({"_refcount": 1}, "other"),
        ({"_mapcount": BUDDY}, "free"),
    ],
)
def test_the_state_of_one_page(page: dict[str, Any], state: str) -> None:
    (found,), untold = page_states(memmap(page), np.empty(0, np.int64))
    assert untold == {}
    assert STATES[found] == state


def test_free_blocks_and_per_cpu_lists() -> None:
    pages = memmap({"_mapcount": BUDDY, "private": 1}, {}, {}, {"_refcount": 1})
    found, _ = page_states(pages, np.array([2]))
    assert [STATES[state] for state in found] == ["free", "free", "per-cpu", "other"]


def test_tails_do_what_their_head_does() -> None:
    head = BASE + 1 * SIZE
    pages = memmap({"_refcount": 1}, {"flags": SLAB, "_refcount": 1}, {"lru": head + 1}, {"lru": head + 1})
    found, _ = page_states(pages, np.empty(0, np.int64))
    assert [STATES[state] for state in found] == ["other", "slab", "slab", "slab"]


def test_what_is_no_page_does_not_count() -> None:
    """SPARSEMEM: a section that is not present leaves a gap, whose words are 0."""
    whole = memmap({"_refcount": 1}, {"_refcount": 1, "flags": RESERVED}, {}, {"flags": SLAB})
    pages = replace(whole, pieces=(Piece(0, 1, BASE, 0x100_0000), Piece(3, 1, BASE + SIZE, 0x100_0020)))
    counts = count_states(pages, page_states(pages, np.empty(0, np.int64))[0])
    assert counts.sum() == 2
    assert counts[0][STATES.index("slab")] == counts[0][STATES.index("other")] == 1


def test_counts_add_up_by_zone() -> None:
    pages = memmap(
        {"flags": RESERVED | NORMAL},
        {"flags": RESERVED | HIGHMEM},
        {"flags": HIGHMEM, "_refcount": 1},
        {"flags": HIGHMEM, "_mapcount": BUDDY},
    )
    counts = count_states(pages, page_states(pages, np.empty(0, np.int64))[0])
    assert counts.shape == (2, len(STATES))
    assert counts.sum(axis=1).tolist() == [1, 3]
    assert dict(zip(STATES, counts[1].tolist(), strict=True)) == {
        **dict.fromkeys(STATES, 0),
        "reserved": 1,
        "other": 1,
        "free": 1,
    }

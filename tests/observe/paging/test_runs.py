"""Leaves become runs exactly where nothing changes but the address."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from kvmtools.observe.paging.forms import PAE
from kvmtools.observe.paging.runs import runs
from kvmtools.observe.paging.walk import Walk, walk

MakeMemory = Callable[..., Any]
NX = 1 << 63


def pae_walk(memory: Any, pmd: dict[int, int], pte: dict[int, int]) -> Walk:
    """A page directory at 0x2000 and one page table at 0x3000 in its last entry."""
    memory.write(0x1000, struct.pack("<Q", 0x2001))
    memory.write(0x2000 + 8 * 511, struct.pack("<Q", 0x3063))
    for table, entries in ((0x2000, pmd), (0x3000, pte)):
        for index, entry in entries.items():
            memory.write(table + 8 * index, struct.pack("<Q", entry))
    return walk(memory, 0x1000, PAE)


def test_a_run_ends_where_anything_but_a_and_d_changes(little_memory: MakeMemory) -> None:
    entries = {
        0: 0x10_0163,
        1: 0x10_1103,  # A and D: the processor's, not a difference
        2: 0x10_2163 | NX,
        3: 0x10_3163 | NX,
        4: 0x10_5163 | NX,  # physical address jumps
        6: 0x10_6163 | NX,  # a hole in virtual space
        7: 0x10_7161 | NX,  # read-only
        8: 0x10_8171 | NX,  # uncached
    }
    found = runs(pae_walk(little_memory(), {}, entries))
    base = 511 << 21
    expected = [(0, 0x100, 2), (2, 0x102, 2), (4, 0x105, 1), (6, 0x106, 1), (7, 0x107, 1), (8, 0x108, 1)]
    assert ((found.virtual - base) >> np.uint64(12)).tolist() == [page for page, _, _ in expected]
    assert (found.physical >> np.uint64(12)).tolist() == [pfn for _, pfn, _ in expected]
    assert found.count.tolist() == [count for _, _, count in expected]
    assert found.size.tolist() == [count * 4096 for _, _, count in expected]
    assert found.executable.tolist() == [True, False, False, False, False, False]
    assert found.writable.tolist() == [True, True, True, True, False, False]
    assert hex(found.flags[0]) == hex(0x103)


def test_pages_of_another_size_begin_another_run(little_memory: MakeMemory) -> None:
    walked = pae_walk(little_memory(), {509: 0x40_0083, 510: 0x60_0083}, {0: 0x80_0003, 1: 0x80_1003})
    found = runs(walked)
    assert found.page_size.tolist() == [2 << 20, 4096]
    assert found.count.tolist() == [2, 2]
    assert found.physical.tolist() == [0x40_0000, 0x80_0000]


def test_runs_cover_every_leaf_once(little_memory: MakeMemory) -> None:
    walked = pae_walk(little_memory(), {3: 0x40_0083}, dict.fromkeys(range(200), 1048579))
    found = runs(walked)
    assert found.count.sum() == len(walked) == 201
    assert found.size.sum() == walked.size.sum()
    assert len(runs(walk(little_memory(), 0x1000, PAE))) == 0


def test_scattered_pages_are_joined_on_demand(little_memory: MakeMemory) -> None:
    entries = {0: 0x10_0163, 1: 0x20_0163, 2: 0x30_0163, 3: 0x31_0163 | 1 << 4, 5: 0x40_0163, 6: 0x40_1163}
    walked = pae_walk(little_memory(), {509: 0x40_0083, 510: 0x80_0083}, entries)
    assert runs(walked).count.tolist() == [1, 1, 1, 1, 1, 1, 2]
    found = runs(walked, scattered=True)
    assert found.count.tolist() == [1, 1, 3, 1, 2]  # large pages are not scattered
    assert found.linear.tolist() == [True, True, False, True, True]
    assert runs(walked).linear.all()


def test_no_run_crosses_a_boundary(little_memory: MakeMemory) -> None:
    base = 511 << 21
    walked = pae_walk(little_memory(), {}, {index: 0x10_0003 + index * 0x1000 for index in range(8)})
    found = runs(walked, boundaries=[0, base + 0x2000, base + 0x4800])
    assert found.count.tolist() == [2, 3, 3]  # the page that a boundary cuts stays with what is before it

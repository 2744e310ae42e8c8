"""Zone MOVABLE in several nodes, against find_zone_movable_pfns_for_nodes() written down line by line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.model.machine import configuration
from kvmtools.model.memory import movable
from kvmtools.model.memory.ram import Ram
from kvmtools.records import Range

BLOCK = 1024
PAGES = 256  # of a MiB


def ram(*ranges: tuple[int, int]) -> Ram:
    return Ram(tuple(Range(*r) for r in ranges), max((end for _start, end in ranges), default=0))


def starts(asked: str, lowest: int, *nodes: Ram) -> list[int | None]:
    return movable.starts(replace(configuration("6.1"), command_line=asked), lowest, nodes)


GIB = 1024 * PAGES
TWO = (ram((1, GIB)), ram((GIB, 2 * GIB)))


@pytest.mark.parametrize("asked", ["", "kernelcore=0", "kernelcore=2G", "movablecore=0", "kernelcore=mirror"])
def test_no_zone(asked: str) -> None:
    assert starts(asked, 0x37600, *TWO) == [None, None]


def test_every_node_has_the_same_share() -> None:
    # 800 MiB each; node 0 has 886 MiB below highmem.  Of the other 714 MiB node 1 gives half, and in the next round
    # node 0 what it has left, so that node 1 has the rest to give: 576 MiB, and the page that node 0 lacks.
    assert starts("kernelcore=1600M", 0x37600, *TWO) == [GIB, roundup(GIB + 576 * PAGES + 1)]
    assert starts("kernelcore=886M", 0x37600, *TWO) == [0x37800, GIB]
    # Without highmem in the way: half each, node 0's first page is none of RAM.
    assert starts("kernelcore=1G", 1, *TWO) == [roundup(1 + GIB // 2), GIB + GIB // 2]
    assert starts("movablecore=1G", 1, *TWO) == [roundup(1 + GIB // 2 - 1), roundup(GIB + GIB // 2 - 1)]


def test_what_a_small_node_cannot_give_the_others_do() -> None:
    small, large = ram((0, 100 * PAGES)), ram((GIB, 2 * GIB))
    assert starts("kernelcore=600M", 0, small, large) == [roundup(100 * PAGES), GIB + 500 * PAGES]
    # The small one last: the large one gave its half before.
    assert starts("kernelcore=600M", 0, large, ram((2 * GIB, 2 * GIB + 100 * PAGES))) == [
        GIB + 500 * PAGES,
        roundup(2 * GIB + 100 * PAGES),
    ]


def test_a_node_without_memory_has_no_share() -> None:
    assert starts("kernelcore=512M", 0, TWO[0], ram(), TWO[1]) == [
        roundup(1 + 256 * PAGES),
        0,
        GIB + 256 * PAGES,
    ]


def test_holes_are_no_memory() -> None:
    assert starts("kernelcore=512M", 0, ram((0, 100 * PAGES), (200 * PAGES, GIB)), TWO[1]) == [
        356 * PAGES,
        GIB + 256 * PAGES,
    ]


def roundup(pfn: int) -> int:
    return -(-pfn // BLOCK) * BLOCK


def as_the_kernel_does(required_kernelcore: int, lowest: int, nodes: list[Ram]) -> list[int]:
    """mm/page_alloc.c, 6.1, from ``usable_startpfn`` to ``out2`` and the rounding after it."""
    zone_movable_pfn = [0] * len(nodes)
    usable_nodes = sum(1 for node in nodes if node.ranges)
    while True:
        kernelcore_node = required_kernelcore // usable_nodes
        for nid, node in enumerate(nodes):
            if not node.ranges:
                continue
            if required_kernelcore < kernelcore_node:
                kernelcore_node = required_kernelcore // usable_nodes
            kernelcore_remaining = kernelcore_node
            for each in node.ranges:
                start_pfn, end_pfn = max(each.start, zone_movable_pfn[nid]), each.end
                if start_pfn >= end_pfn:
                    continue
                if start_pfn < lowest:
                    kernel_pages = min(end_pfn, lowest) - start_pfn
                    kernelcore_remaining -= min(kernel_pages, kernelcore_remaining)
                    required_kernelcore -= min(kernel_pages, required_kernelcore)
                    if end_pfn <= lowest:
                        zone_movable_pfn[nid] = end_pfn
                        continue
                    start_pfn = lowest
                size_pages = end_pfn - start_pfn
                if size_pages > kernelcore_remaining:
                    size_pages = kernelcore_remaining
                zone_movable_pfn[nid] = start_pfn + size_pages
                required_kernelcore -= min(required_kernelcore, size_pages)
                kernelcore_remaining -= size_pages
                if not kernelcore_remaining:
                    break
        usable_nodes -= 1
        if not (usable_nodes and required_kernelcore > usable_nodes):
            return [roundup(pfn) for pfn in zone_movable_pfn]


@st.composite
def machines(draw: st.DrawFn) -> list[Ram]:
    edges = sorted(draw(st.sets(st.integers(0, 40), min_size=2, max_size=12)))
    ranges = [(start * 700, end * 700) for start, end in zip(edges[::2], edges[1::2], strict=False)]
    cuts = sorted(draw(st.lists(st.integers(0, len(ranges)), max_size=3)))
    bounds = [0, *cuts, len(ranges)]
    return [ram(*ranges[start:end]) for start, end in pairwise(bounds)]


@given(machines(), st.integers(1, 30_000), st.integers(0, 30_000))
def test_as_the_kernel_does(nodes: list[Ram], pages: int, lowest: int) -> None:
    total = sum(len(r) for node in nodes for r in node.ranges)
    expected: list[int | None] = [None] * len(nodes)
    if pages < total:
        expected[:] = as_the_kernel_does(pages, lowest, nodes)
    assert starts(f"kernelcore={pages * 4}K", lowest, *nodes) == expected

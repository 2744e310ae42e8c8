"""Several nodes: each has all zones, and every page names the node and the zone that have it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvmtools.errors import Inconclusive, UsageError
from kvmtools.model import managed
from kvmtools.model.machine import configuration
from kvmtools.model.pages.flags_layout import FlagsLayout, flags_layout
from kvmtools.model.pages.memmap import ZoneRange
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, NodeSpan, ZoneSpan

GIB = 1 << 30
DMA, NORMAL, HIGHMEM, MOVABLE = range(4)


def numa(era: str = "6.1", *nodes: tuple[int, int], memory: int = 2 * GIB, **changes: Any) -> Configuration:
    told = tuple(NodeSpan(number, start, end) for number, (start, end) in enumerate(nodes))
    ordinary = configuration(era, memory=memory, sparsemem=True)
    return replace(ordinary, **{"nodes": told, "max_numnodes": 2, "nr_pageflags": 22, **changes})


HALVES = ((1, 0x40000), (0x40000, 0x7FFE0))


def populated(configuration: Configuration) -> list[tuple[int, str, int, int]]:
    return [
        (span.node, span.name, span.start_pfn, span.end_pfn)
        for span in Prediction(configuration).zones
        if span.end_pfn
    ]


@pytest.mark.parametrize("era", ["5.10", "6.1", "6.12"])
def test_every_node_has_its_part_of_every_zone(era: str) -> None:
    low = Prediction(numa(era, *HALVES)).layout.max_low_pfn
    assert low is not None
    assert Prediction(numa(era, *HALVES)).zones == (
        ZoneSpan("DMA", 1, 0x1000, 0),
        ZoneSpan("NORMAL", 0x1000, low, 0),
        ZoneSpan("HIGHMEM", low, 0x40000, 0),
        ZoneSpan("MOVABLE", 0, 0, 0),
        ZoneSpan("DMA", 0, 0, 1),
        ZoneSpan("NORMAL", 0, 0, 1),
        ZoneSpan("HIGHMEM", 0x40000, 0x7FFE0, 1),
        ZoneSpan("MOVABLE", 0, 0, 1),
    )


def test_movable_in_every_node() -> None:
    """Of 256 Ki pages lowmem gives 226,716; each node gives half of the rest, 17,714 of highmem."""
    low = Prediction(numa("6.1", *HALVES)).layout.max_low_pfn
    assert populated(numa("6.1", *HALVES, command_line="kernelcore=1G")) == [
        (0, "DMA", 1, 0x1000),
        (0, "NORMAL", 0x1000, low),
        (0, "HIGHMEM", low, 0x3BC00),
        (0, "MOVABLE", 0x3BC00, 0x40000),
        (1, "HIGHMEM", 0x40000, 0x44800),
        (1, "MOVABLE", 0x44800, 0x7FFE0),
    ]


def test_a_node_without_memory_has_empty_zones() -> None:
    found = Prediction(numa("6.1", (1, 0x7FFE0), (0, 0)))
    assert [(span.node, len(range(span.start_pfn, span.end_pfn))) for span in found.zones[4:]] == [(1, 0)] * 4


def test_present_pages_of_a_node() -> None:
    # 3 GiB, and 1 GiB above 4 GiB: node 1 has the PCI hole in it.
    found = Prediction(numa("6.1", (1, 0x80000), (0x80000, 0x140000), memory=4 * GIB))
    last = found.zones[6]
    assert (last.node, last.name) == (1, "HIGHMEM")
    assert (last.start_pfn, last.end_pfn) == (0x80000, 0x140000)
    assert found.present(last) == 0xBFFE0 - 0x80000 + 0x40000


def test_one_node_of_a_numa_kernel_is_as_without() -> None:
    without = Prediction(numa("6.1", nr_pageflags=0, max_numnodes=1))
    one = Prediction(numa("6.1", (1, 0x7FFE0)))
    assert one.zones == without.zones
    assert one.memmap.zones == without.memmap.zones


def test_nodes_that_overlap() -> None:
    with pytest.raises(Inconclusive, match="nodes 0 and 1 overlap"):
        _ = Prediction(numa("6.1", (1, 0x60000), (0x40000, 0x7FFE0))).zones
    # In whatever order they are numbered.
    with pytest.raises(Inconclusive, match="nodes 1 and 0 overlap"):
        _ = Prediction(numa("6.1", (0x40000, 0x7FFE0), (1, 0x60000))).zones
    assert len(Prediction(numa("6.1", (0x40000, 0x7FFE0), (1, 0x40000))).zones) == 8


def test_holes_are_of_the_node_and_the_zone_that_follow() -> None:
    """16 MiB before node 1 are none of RAM; the last hole is the last zone's."""
    found = Prediction(
        numa("6.1", (1, 0x3F000), (0x40000, 0x7FFE0), command_line="memmap=16M$0x3f000000 kernelcore=1G")
    )
    low = found.layout.max_low_pfn
    assert low is not None
    assert found.memmap.zones[:2] == (ZoneRange(0, 1, DMA, False, 0), ZoneRange(1, 0x9F, DMA, True, 0))
    assert found.memmap.zones[-6:] == (
        ZoneRange(low, 0x3BC00, HIGHMEM, True, 0),
        ZoneRange(0x3BC00, 0x3F000, MOVABLE, True, 0),
        ZoneRange(0x3F000, 0x40000, HIGHMEM, False, 1),
        ZoneRange(0x40000, 0x44800, HIGHMEM, True, 1),
        ZoneRange(0x44800, 0x7FFE0, MOVABLE, True, 1),
        ZoneRange(0x7FFE0, 0x80000, MOVABLE, False, 1),
    )


@pytest.mark.parametrize(
    ("max_numnodes", "nr_pageflags", "layout"),
    [
        (2, 22, FlagsLayout(25, 7, 22, 2, 1)),
        (2, 23, FlagsLayout(25, 7, 23, 2, 0)),  # no room: a table says the node of every section
        (4, 21, FlagsLayout(25, 7, 21, 2, 2)),
        (4, 22, FlagsLayout(25, 7, 23, 2, 0)),
        (1, 23, FlagsLayout(25, 7, 23, 2, 0)),
    ],
)
def test_where_page_flags_keep_the_node(max_numnodes: int, nr_pageflags: int, layout: FlagsLayout) -> None:
    found = flags_layout(numa("6.1", *HALVES, max_numnodes=max_numnodes, nr_pageflags=nr_pageflags))
    assert found == layout


def test_multi_generation_lru_takes_bits_that_a_node_would_need() -> None:
    """LRU_GEN_WIDTH: 4 generations and "none" take 3 bits, 7 as well, 8 take 4."""
    room = numa("6.1", *HALVES, max_numnodes=2, nr_pageflags=19, lru_generations=4)
    assert flags_layout(room) == FlagsLayout(25, 7, 22, 2, 1)
    assert flags_layout(replace(room, lru_generations=7)) == FlagsLayout(25, 7, 22, 2, 1)
    assert flags_layout(replace(room, lru_generations=8)) == FlagsLayout(25, 7, 23, 2, 0)


def test_fields_of_page_flags() -> None:
    flags = FlagsLayout(25, 7, 21, 2, 2)
    word = 5 << 25 | 2 << 23 | 1 << 21 | 0x1F_FFFF
    assert (flags.section(word), flags.node(word), flags.zone(word)) == (5, 2, 1)
    assert FlagsLayout(25, 7, 23, 2).node(word) is None


@pytest.mark.parametrize(
    ("era", "changes", "reason"),
    [
        ("7.2", {}, "7.2 has no NUMA"),
        ("6.1", {"sparsemem": False}, "goes with PAE and SPARSEMEM"),
        ("6.1", {"pae": False, "nx": False}, "goes with PAE and SPARSEMEM"),
        (
            "2.6.32",
            {"zone_names": ("DMA", "NORMAL", "HIGHMEM")},
            "2.6.32 takes every node's mem_map out of lowmem",
        ),
    ],
)
def test_kernels_that_cannot_have_nodes(era: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        _ = Prediction(numa(era, *HALVES, **changes)).zones


def test_managed_pages_of_several_nodes_are_not_bounded() -> None:
    with pytest.raises(UsageError, match="which node's memory"):
        managed.predict(numa("6.1", *HALVES))
    assert managed.predict(numa("6.1", (1, 0x7FFE0)))

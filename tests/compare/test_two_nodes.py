"""A guest of two nodes: its zones and pages agree with the model, and what is found names the node.

No guest of two nodes is recorded: the PAE guest is observed and then told anew, as if its highmem were parted between
two nodes and its ``mem_map`` were one section of SPARSEMEM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from recorded_guest import RecordedGuest, exchanged, load

from kvmtools.compare import Result, Status, check
from kvmtools.observe.observed import Observed
from kvmtools.observe.pages.memmap import MemMap
from kvmtools.observe.pages.page_flags import Field
from kvmtools.observe.pages.pieces import Piece
from kvmtools.observe.zones.zones import Place, Zone
from kvmtools.records import NodeSpan

BORDER = 0x5000
SECTION = 1 << 17
SECTION_BIT, NODE_BIT, ZONE_BIT = 1 << 25, 1 << 24, 1 << 22
FLAGS = ZONE_BIT - 1
HIGHMEM = 2


@pytest.fixture
def guest() -> RecordedGuest:
    return load("pae")


@pytest.fixture
def numa(guest: RecordedGuest) -> Observed:
    return two_nodes(guest.observe())


def two_nodes(seen: Observed) -> Observed:
    last = max(zone.end_pfn for zone in seen.zones)
    nodes = (NodeSpan(0, 1, BORDER), NodeSpan(1, BORDER, last))
    told = replace(seen.configuration, sparsemem=True, nodes=nodes, max_numnodes=2, nr_pageflags=22)
    zones = tuple(part(zone, number, nodes[number]) for number in (0, 1) for zone in seen.zones)
    return exchanged(seen, configuration=told, memmap=one_section(seen.memmap), zones=zones)


def one_section(memmap: MemMap) -> MemMap:
    """The map with room for all pages of a section, those behind RAM reserved."""
    words = np.zeros((len(memmap.words), SECTION), memmap.words.dtype)
    words[:, : memmap.length] = memmap.words
    word = {name: offset // words.itemsize for name, offset in memmap.offsets.items()}
    flags = words[word["flags"]]
    flags[: memmap.length] = flags[: memmap.length] & FLAGS | memmap.zone.astype(words.dtype) * ZONE_BIT
    flags[memmap.length :] = memmap.layout.bit("PG_reserved") | HIGHMEM * ZONE_BIT
    flags[BORDER:] |= NODE_BIT
    words[word["_refcount"], memmap.length :] = 1
    words[word["_mapcount"], memmap.length :] = 0xFFFF_FFFF
    named = {name: bit for name, bit in memmap.layout.names.items() if 1 << bit <= FLAGS}
    layout = replace(memmap.layout, names=named, section=Field(25, 7), node=Field(24, 1), zone=Field(22, 2))
    pieces = (Piece(0, SECTION, memmap.base, memmap.physical),)
    return replace(memmap, pieces=pieces, max_mapnr=None, allocated=SECTION, words=words, layout=layout)


def part(zone: Zone, node: int, span: NodeSpan) -> Zone:
    """What a node has of a zone: the pages of highmem in its span, with the lists that hold them."""
    start, end = max(zone.start_pfn, span.start_pfn), min(zone.end_pfn, span.end_pfn)
    place = Place(node, zone.index, zone.name, 2)
    if start >= end:
        empty = dict.fromkeys(("start_pfn", "spanned", "present", "managed"), 0)
        return replace(zone, place=place, address=zone.address + node, free_area=(), pcp=(), **empty)

    def mine(pages: np.ndarray) -> np.ndarray:
        return pages[(pages >= start) & (pages < end)]

    areas = [
        replace(area, lists=tuple(replace(each, pages=mine(each.pages)) for each in area.lists))
        for area in zone.free_area
    ]
    pcp = [
        replace(one, lists=tuple(replace(each, pages=mine(each.pages)) for each in one.lists))
        for one in zone.pcp
    ]
    whole = (start, end) == (zone.start_pfn, zone.end_pfn)
    free = sum(area.blocks << area.order for area in areas)
    return replace(
        zone,
        place=place,
        address=zone.address + node,
        start_pfn=start,
        spanned=end - start,
        present=zone.present if whole else end - start,
        managed=zone.managed if whole else end - start,
        free_area=tuple(replace(area, nr_free=area.blocks) for area in areas),
        pcp=tuple(replace(one, count=one.pages) for one in pcp),
        vm_stat=zone.vm_stat | {"NR_FREE_PAGES": free},
        vm_stat_diff={},
    )


def found(result: Result) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in result.findings]


def zone_of(numa: Observed, node: int, name: str) -> int:
    """Its place among the zones."""
    return next(
        at for at, zone in enumerate(numa.zones) if (zone.place.node, zone.place.name) == (node, name)
    )


def changed(numa: Observed, node: int, name: str, change: Callable[[Zone], Zone]) -> Observed:
    at = zone_of(numa, node, name)
    return exchanged(numa, zones=(*numa.zones[:at], change(numa.zones[at]), *numa.zones[at + 1 :]))


def test_it_agrees(numa: Observed) -> None:
    result = check(numa)
    assert found(result) == []
    status = {outcome.rule: outcome.status for outcome in result.outcomes}
    rules = (
        "zones.spans", "zones.present", "zones.disjoint", "memmap.zone", "memmap.node", "memmap.section",
        "memmap.holes-reserved", "buddy.listed", "buddy.block-in-zone", "pcp.pages-free",
    )  # fmt: skip
    assert {rule: status[rule] for rule in rules} == dict.fromkeys(rules, Status.AGREE)


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("zones.spans", lambda zone: replace(zone, spanned=zone.spanned + 1)),
        ("zones.counts-ordered", lambda zone: replace(zone, managed=zone.managed + 1)),
        ("zones.present", lambda zone: replace(zone, present=zone.present - 1)),
    ],
)
def test_a_zone_is_found_by_its_node(numa: Observed, rule: str, change: Callable[[Zone], Zone]) -> None:
    result = check(changed(numa, 0, "HIGHMEM", change), only=(rule,))
    assert found(result) == [(rule, "node 0 zone HIGHMEM")]


def test_the_lists_of_a_zone_are_found_by_its_node(numa: Observed) -> None:
    def miscounted(zone: Zone) -> Zone:
        areas = tuple(replace(area, nr_free=area.nr_free + (area.order == 3)) for area in zone.free_area)
        return replace(zone, free_area=areas)

    assert found(check(changed(numa, 1, "HIGHMEM", miscounted))) == [
        ("buddy.nr-free", "node 1 zone HIGHMEM order 3")
    ]

    def kept(zone: Zone) -> Zone:
        return replace(zone, pcp=tuple(replace(one, count=one.count + 1) for one in zone.pcp[:1]))

    assert found(check(changed(numa, 1, "HIGHMEM", kept))) == [("pcp.count", "node 1 zone HIGHMEM cpu 0")]


def with_flag(numa: Observed, pfn: int, bit: int) -> Observed:
    memmap = numa.memmap
    words = memmap.words.copy()
    words[memmap.offsets["flags"] // words.itemsize, pfn] ^= bit
    return exchanged(numa, memmap=replace(memmap, words=words))


@pytest.mark.parametrize(
    ("rule", "bit"), [("memmap.node", NODE_BIT), ("memmap.section", SECTION_BIT), ("memmap.zone", ZONE_BIT)]
)
def test_a_page_in_use_elsewhere(numa: Observed, rule: str, bit: int) -> None:
    pfn = int(np.flatnonzero(numa.memmap.refcount[:BORDER] > 0)[-1])
    assert found(check(with_flag(numa, pfn, bit))) == [(rule, f"pfn {pfn:#x}")]


def test_a_finding_about_a_pages_zone_names_the_node(numa: Observed) -> None:
    pfn = int(np.flatnonzero(numa.memmap.refcount[:BORDER] > 0)[-1])
    (finding,) = check(with_flag(numa, pfn, ZONE_BIT)).findings
    assert (finding.expected, finding.observed) == ("node 0 zone HIGHMEM", "node 0 zone MOVABLE")


@pytest.mark.parametrize("where", ["on a free list", "on a CPU's list"])
def test_a_free_page_of_another_node(numa: Observed, where: str) -> None:
    """The lists hold it, so they would complain, too: the page's own fault explains that."""
    zone = numa.zones[zone_of(numa, 1, "HIGHMEM")]
    pages = zone.pcp_pages if where == "on a CPU's list" else np.flatnonzero(numa.memmap.buddy)
    pfn = int(pages[-1])
    assert pfn >= BORDER
    result = check(with_flag(numa, pfn, NODE_BIT))
    assert found(result) == [("memmap.node", f"pfn {pfn:#x}")]
    explained = {outcome.rule for outcome in result.outcomes if outcome.consequences}
    assert explained & {"buddy.listed", "pcp.pages-free"}
    alone = "pcp.pages-free" if where == "on a CPU's list" else "buddy.listed"
    (finding,) = check(with_flag(numa, pfn, NODE_BIT), only=(alone,)).findings
    assert "node 0 zone HIGHMEM" in f"{finding.expected} {finding.observed}"


def test_zones_of_one_node_that_overlap(numa: Observed) -> None:
    grown = changed(numa, 0, "NORMAL", lambda zone: replace(zone, spanned=zone.spanned + 1))
    assert found(check(grown, only=("zones.disjoint",))) == [("zones.disjoint", "node 0 zone HIGHMEM")]


def test_a_node_that_begins_elsewhere(numa: Observed) -> None:
    """The model is told so, and then the zones do not fit."""
    first, second = numa.configuration.nodes
    nodes = (first, replace(second, start_pfn=second.start_pfn + 0x100))
    told = exchanged(numa, configuration=replace(numa.configuration, nodes=nodes))
    assert found(check(told, only=("zones.spans",))) == [("zones.spans", "node 1 zone HIGHMEM")]


def test_nodes_that_overlap(numa: Observed) -> None:
    """Whose a page is cannot be told then: no rule that would have to know says anything."""
    first, second = numa.configuration.nodes
    nodes = (first, replace(second, start_pfn=second.start_pfn - 0x100))
    result = check(exchanged(numa, configuration=replace(numa.configuration, nodes=nodes)))
    assert found(result) == []
    skipped = {each.rule: each.reason for each in result.outcomes if each.status is Status.SKIPPED}
    for rule in ("zones.spans", "memmap.zone", "memmap.node", "buddy.block-in-zone"):
        assert "nodes 0 and 1 overlap" in skipped[rule]

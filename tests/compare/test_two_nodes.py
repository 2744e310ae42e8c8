"""A guest of two nodes: its zones and pages agree with the model, and what is found names the node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from recorded_guest import RecordedGuest, exchanged, load
from two_nodes import BORDER, NODE_BIT, SECTION_BIT, ZONE_BIT, two_nodes

from kvmtools.compare.engine import check
from kvmtools.findings import Result, Status
from kvmtools.observe.observed import Observed
from kvmtools.observe.zones.zones import Zone


@pytest.fixture
def guest() -> RecordedGuest:
    return load("pae")


@pytest.fixture
def numa(guest: RecordedGuest) -> Observed:
    return two_nodes(guest.observe())


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
        "zones.spans", "zones.present", "memmap.zone", "memmap.node", "memmap.section",
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
    assert finding.symbol == f"pfn_to_page({pfn:#x})->flags"


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

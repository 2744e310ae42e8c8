"""FLATMEM's array behind the end of the node: the observer stops there, a rule looks as far as the model says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded_guest import RecordedGuest, exchanged

from kvmtools.compare.case import Case
from kvmtools.compare.engine import check
from kvmtools.model import eras
from kvmtools.observe.observed import Observed
from kvmtools.observe.pages.memmap import page_at, page_pfn
from kvmtools.observe.pages.pieces import needs
from kvmtools.records import MARKS

END = 0x5FE0
"""Where the recorded guests' RAM ends; the block of 4 MiB that holds it goes on to ``ARRAY``."""
ARRAY = 0x6000
RULES = ("memmap.zone", "memmap.holes-reserved", "memmap.refcount-not-negative")


@pytest.fixture
def seen(recorded: RecordedGuest) -> Observed:
    """The guest as if it were 7.2, which initialises the array to its end, and says so in ``max_mapnr``."""
    memmap = recorded.healthy.memmap
    assert (memmap.length, memmap.max_mapnr) == (END, END)
    recorded.write(recorded.healthy.address("max_mapnr"), ARRAY)
    hole = {"flags": 2 << 30 | memmap.layout.bit("PG_reserved"), "_refcount": 1, "_mapcount": 0xFFFF_FFFF}
    for pfn in range(END, ARRAY):
        for member, value in hole.items():
            recorded.write(memmap.base + pfn * memmap.page_size + memmap.offsets[member], value)
    found = recorded.observe()
    return exchanged(found, configuration=replace(found.configuration, marks=frozenset(MARKS)))


def findings(seen: Observed) -> list[tuple[str, int | None]]:
    result = check(seen, only=RULES)
    assert not any(outcome.reason for outcome in result.outcomes)
    return [(found.rule, found.pfn) for found in result.findings]


def test_the_observer_ends_with_the_node_and_the_rules_with_the_array(seen: Observed) -> None:
    assert eras.shown(seen.configuration.marks).name == "7.2"
    assert seen.memmap.length == END
    whole = Case(seen).memmap
    assert whole.length == ARRAY
    assert (whole.words[:, :END] == seen.memmap.words).all()
    assert findings(seen) == []


@pytest.mark.parametrize(
    ("member", "value", "rule"),
    [
        ("flags", 1 << 30, "memmap.zone"),
        ("_refcount", 5, "memmap.holes-reserved"),
        ("_refcount", 0xFFFF_FFFF, "memmap.holes-reserved"),
    ],
)
def test_what_is_wrong_behind_the_node_is_found(
    recorded: RecordedGuest, seen: Observed, member: str, value: int, rule: str
) -> None:
    memmap, pfn = recorded.healthy.memmap, ARRAY - 1
    recorded.write(memmap.base + pfn * memmap.page_size + memmap.offsets[member], value)
    assert (rule, pfn) in findings(seen)


def test_where_the_kernel_ends_sooner_nobody_looks_behind(recorded: RecordedGuest, seen: Observed) -> None:
    recorded.write(recorded.healthy.address("max_mapnr"), END + 5)
    again = exchanged(recorded.observe(), configuration=seen.configuration)
    assert Case(again).memmap.length == END + 5


def test_a_limit_that_was_overwritten_is_not_followed(recorded: RecordedGuest) -> None:
    """6.1, whose array has nothing behind the node that anybody has set."""
    recorded.write(recorded.healthy.address("max_mapnr"), 0xFFFF_FFFF)
    again = recorded.observe()
    assert again.memmap.max_mapnr == 0xFFFF_FFFF
    assert Case(again).memmap.length == again.memmap.length == END


def test_a_kernel_that_the_model_refuses_ends_with_its_node(seen: Observed) -> None:
    impossible = exchanged(seen, configuration=replace(seen.configuration, e820=()))
    assert Case(impossible).memmap.length == END


def test_a_page_that_is_asked_for_is_one_that_the_kernel_calls_valid(
    recorded: RecordedGuest, seen: Observed
) -> None:
    kernel, memmap = recorded.kernel, recorded.healthy.memmap
    last = page_at(kernel, ARRAY - 1)
    assert (last["flag_names"], last["refcount"]) == (("PG_reserved",), 1)
    assert page_pfn(kernel, last["page"]) == ARRAY - 1 == (last["page"] - memmap.base) // memmap.page_size
    with pytest.raises(IndexError):
        page_at(kernel, ARRAY)
    assert seen.memmap.length == END


@pytest.mark.parametrize(("limit", "kept"), [(END - 1, 0), (END, 0), (ARRAY, ARRAY - END), (1 << 31, 1024)])
def test_what_rules_may_look_at_is_captured(recorded: RecordedGuest, limit: int, kept: int) -> None:
    recorded.write(recorded.healthy.address("max_mapnr"), limit)
    array, behind = needs(recorded.kernel)
    size = recorded.healthy.memmap.page_size
    assert (array.start, len(array)) == (recorded.healthy.memmap.physical, END * size)
    assert (behind.start, len(behind)) == (array.end, kept * size)

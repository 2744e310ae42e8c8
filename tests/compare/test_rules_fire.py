"""Every rule fires: one structure of a recorded guest is broken, and exactly the rule meant for it says so."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet
from breaks import BREAKS, Break
from recorded_guest import RecordedGuest, load

from kvmtools.compare.rules import RULES
from kvmtools.findings import Result, Status

GUESTS = ("pae", "nopae", "numa")
SKIPPED = {
    "pae": {"memmap.section", "memmap.node"},
    "nopae": {"memmap.section", "memmap.node", "pagetable.write-xor-execute"},
    "numa": set(),
}
"""Rules about what a guest's kernel does not have; every other one finds something to examine."""
NEED_ANOTHER_WALKER = {"pagetable.walkers-agree"}


def found(result: Result) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in result.findings]


def possible(breaks: tuple[Break, ...]) -> list[ParameterSet]:
    """Each guest with each break that there can be on it."""
    pairs = ((name, each) for name in GUESTS for each in breaks if getattr(each, name))
    return [pytest.param(name, each, id=f"{name}-{each}") for name, each in pairs]


@pytest.mark.parametrize("name", GUESTS)
def test_a_healthy_guest_agrees(name: str) -> None:
    result = load(name).check()
    assert found(result) == []
    assert result.exit_code == 0
    skipped = {outcome.rule for outcome in result.outcomes if outcome.status is Status.SKIPPED}
    assert skipped == SKIPPED[name]


@pytest.mark.parametrize("name", GUESTS)
def test_a_healthy_guest_has_pkmap_in_every_state(name: str) -> None:
    counts = load(name).healthy.pkmap.counts
    assert {0, 1, 2} <= set(counts.tolist())
    assert counts.max() > 2


@pytest.mark.parametrize(("recorded", "brk"), possible(BREAKS), indirect=["recorded"])
def test_exactly_the_rule_that_is_meant(recorded: RecordedGuest, brk: Break) -> None:
    subject = brk.do(recorded)
    result = recorded.check()
    assert found(result) == [(brk.rule, subject)]
    assert result.exit_code == 1


def test_every_rule_reports_alone() -> None:
    """A rule whose findings another one always explains asks nothing of its own, and goes."""
    broken = {brk.rule for brk in BREAKS}
    assert broken | NEED_ANOTHER_WALKER == {rule.id for rule in RULES}

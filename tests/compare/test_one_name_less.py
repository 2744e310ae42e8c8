"""A kernel that is a little different: without any one symbol, type or member it costs what needs that one thing.

Every name that the vmlinux of a recorded guest is asked for is taken away, one at a time.  What does not ask for a name
comes out without it as it does with it; so only the parts and the rules that ask for it are looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from lesser_kernel import Asked, Asking, asking, names, says, without
from recorded_guest import RecordedGuest, load

from kvmtools.compare.engine import check
from kvmtools.compare.rules import RULES
from kvmtools.findings import Outcome, Status
from kvmtools.observe.observed import Observed

NO_KERNEL_WITHOUT = {
    "banner linux_banner": "by it the kernel is found",
    "symbol linux_banner": "by it the kernel is found",
    "page_offset page offset": "nothing can be read",
    "symbol swapper_pg_dir": "there are no page tables",
    "sizeof pte_t": "page tables cannot be read",
}
"""Names without which there is no kernel at all: whatever comes of it, but no internal error."""

COST = {
    "symbol_like last_pkmap_nr": {"pkmap.cursor-in-range"},
    "symbol_like pkmap_map_wait": {"pkmap.waiters"},
    "offset struct page_address_slot lock": set[str](),
    "symbol iomem_resource": {"zones.system-ram"},
    "symbol max_pfn": set[str](),
    "enumerators zone_watermarks": set[str](),
    "offset struct zone lowmem_reserve": set[str](),
    "offset struct zone vm_stat": {"buddy.free-pages"},
    "offset struct per_cpu_pages count": {"pcp.count"},
    "offset struct per_cpu_pages high": set[str](),
    "offset struct zone managed_pages": {"zones.counts-ordered", "zones.managed-total"},
    "offset struct task_struct tasks": {"pagetable.tables-typed", "pagetable.mapped-in-use"},
}
"""What a name costs, where the rules that need it can be told by their sentences."""


@dataclass(frozen=True)
class Subject:
    """A recorded guest, what is asked of its vmlinux, and by which rule."""

    asking: Asking
    outcomes: dict[str, Outcome]
    rules: dict[str, frozenset[str]]

    def verdict(self, name: str) -> dict[str, Outcome]:
        """How the rules that ask for the name come out without it."""
        rules = [rule for rule, asked in self.rules.items() if name in asked]
        if not rules:
            return {}
        return {outcome.rule: outcome for outcome in check(self.asking.without(name), only=rules).outcomes}


def subject_of(guest: RecordedGuest) -> Subject:
    whole = asking(guest)
    kernel = without(guest, "")
    assert isinstance(kernel.vmlinux, Asked)
    rules = {}
    for rule in RULES:
        with kernel.vmlinux.noting() as asked:
            check(Observed(kernel.with_memory(guest.snapshot), guest.registers), only=[rule.id])
        rules[rule.id] = frozenset(asked)
    return Subject(whole, {outcome.rule: outcome for outcome in check(whole.healthy).outcomes}, rules)


@pytest.fixture(scope="module", params=["pae", "nopae", "numa"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(load(request.param))


def newly_skipped(subject: Subject, verdict: dict[str, Outcome]) -> Iterator[Outcome]:
    for rule, outcome in verdict.items():
        if outcome.status is Status.SKIPPED and subject.outcomes[rule].status is not Status.SKIPPED:
            yield outcome


def test_any_one_name_may_be_missing(subject: Subject) -> None:
    """Nothing that is found then was not found before, and a rule that is skipped says what the kernel lacks."""
    for name in names(subject.asking.guest):
        if name in NO_KERNEL_WITHOUT:
            continue
        verdict = subject.verdict(name)
        assert [(name, outcome.findings) for outcome in verdict.values() if outcome.findings] == []
        skipped = list(newly_skipped(subject, verdict))
        assert len(skipped) < sum(outcome.status is Status.AGREE for outcome in subject.outcomes.values()), (
            name
        )
        for outcome in skipped:
            assert says(outcome.reason, name), (name, outcome.rule, outcome.reason)


@pytest.mark.parametrize("name", COST)
def test_a_name_costs_the_rules_that_need_it(subject: Subject, name: str) -> None:
    assert {outcome.rule for outcome in newly_skipped(subject, subject.verdict(name))} == COST[name]

"""Which rules run, what they need, and what becomes of a rule with nothing to look at."""

from __future__ import annotations

import pytest
from recorded_guest import RecordedGuest, exchanged

from kvmtools.compare.case import Case
from kvmtools.compare.engine import check, check_case, chosen
from kvmtools.compare.needs import NEEDS
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.compare.rules import RULES
from kvmtools.errors import UsageError
from kvmtools.findings import SHOWN, Finding, Status

INVARIANTS = {*range(1, 10), *range(12, 18), 21, 22, 25, 26, 27, 29, 30, *range(33, 38), *range(39, 43), 46}
"""The invariants that `kvmtools check` must hold a guest to; 10 and 11 are of kernels whose RAM map it cannot read."""


def rule(name: str, *findings: Finding, defers_to: tuple[str, ...] = (), total: int = 0) -> Rule:
    """A rule that finds what it is told to."""
    seen = Examination(max(1, len(findings)), findings, total or len(findings))
    return Rule(
        name, "truth", "source", "things", "look {virtual}", check=lambda _: seen, defers_to=defers_to
    )


def test_rule_ids_are_unique_and_grouped() -> None:
    ids = [each.id for each in RULES]
    assert len(ids) == len(set(ids))
    assert all(each.id.startswith(f"{each.group}.") and len(each.id) > len(each.group) + 1 for each in RULES)


def test_every_invariant_has_a_rule() -> None:
    assert {number for each in RULES for number in each.invariants} >= INVARIANTS


@pytest.mark.parametrize("each", RULES, ids=lambda each: each.id)
def test_a_rule_says_what_it_means(each: Rule) -> None:
    assert all((each.truth, each.source, each.unit, each.next, each.exceptions))
    assert not each.truth.endswith(".")
    assert set(each.needs) <= NEEDS.keys()
    ids = {other.id for other in RULES}
    assert set(each.defers_to) <= ids - {each.id}


def test_no_two_rules_defer_to_each_other() -> None:
    """Else both faults could hide behind one another."""
    defers = {each.id: set(each.defers_to) for each in RULES}

    def reaches(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for other in defers[waiting.pop()] - found:
                found.add(other)
                waiting.append(other)
        return found

    assert [name for name in defers if name in reaches(name)] == []


def test_words_choose_rules_and_groups() -> None:
    assert {each.group for each in chosen(("pkmap",), ())} == {"pkmap"}
    assert [each.id for each in chosen(("pcp.count",), ())] == ["pcp.count"]
    assert "pkmap" not in {each.group for each in chosen((), ("pkmap",))}
    assert chosen((), ()) == RULES


@pytest.mark.parametrize(("only", "skip"), [(("pkmapp",), ()), ((), ("pcp.",))])
def test_a_word_that_names_no_rule_is_refused(only: tuple[str, ...], skip: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="no rule is called"):
        chosen(only, skip)


def test_skipping_everything_makes_no_sense(recorded: RecordedGuest) -> None:
    groups = tuple({each.group for each in RULES})
    with pytest.raises(UsageError, match="no rule is left"):
        check(recorded.observe(), skip=groups)


def test_a_kernel_without_highmem_has_no_pkmap_to_check(recorded: RecordedGuest) -> None:
    result = check(exchanged(recorded.observe(), pkmap=None), only=("pkmap",))
    assert result.exit_code == 5
    assert all("CONFIG_HIGHMEM" in outcome.reason for outcome in result.outcomes)


def test_a_rule_that_sees_nothing_is_skipped(recorded: RecordedGuest) -> None:
    nothing = Rule("a.nothing", "truth", "source", "unicorns", "look", check=lambda _: Examination(0))
    (outcome,) = check_case(recorded.healthy, [nothing]).outcomes
    assert outcome.status is Status.SKIPPED
    assert outcome.reason == "nothing to examine: there were no unicorns"


def test_a_finding_is_signed_and_told_where_to_look(recorded: RecordedGuest) -> None:
    (found,) = check_case(
        recorded.healthy, [rule("a.b", Finding("slot 1", "x", "y", virtual=0x1000))]
    ).findings
    assert (found.rule, found.next) == ("a.b", "look 0x1000")


def test_what_another_rule_explains_is_a_consequence(recorded: RecordedGuest) -> None:
    cause = rule("a.cause", Finding("slot 1", "x", "y"))
    effect = rule("a.effect", Finding("pfn 2", "x", "y", touches=("slot 1",)), defers_to=("a.cause",))
    unrelated = rule("a.unrelated", Finding("slot 2", "x", "y"), defers_to=("a.cause",))
    result = check_case(recorded.healthy, [cause, effect, unrelated])
    assert [(found.rule, found.subject) for found in result.findings] == [
        ("a.cause", "slot 1"),
        ("a.unrelated", "slot 2"),
    ]
    assert [len(outcome.consequences) for outcome in result.outcomes] == [0, 1, 0]
    alone = check_case(recorded.healthy, [effect])
    assert [found.rule for found in alone.findings] == ["a.effect"]


def test_a_flood_is_counted_whole_and_shown_in_part(recorded: RecordedGuest) -> None:
    seen = violations(10_000, range(5_000), lambda number: Finding(f"pfn {number}", "x", "y"))
    flood = Rule("a.flood", "truth", "source", "pages", "look", check=lambda _: seen)
    (outcome,) = check_case(recorded.healthy, [flood]).outcomes
    assert (outcome.total, len(outcome.findings), outcome.examined) == (5_000, SHOWN, 10_000)


def test_locks_that_were_held_are_named(recorded: RecordedGuest) -> None:
    assert recorded.healthy.unsettled == ()
    zone = recorded.healthy.populated_zones[0]
    recorded.write(zone.address + recorded.vmlinux.offset("struct zone", "lock"), 1, 1)
    recorded.write(recorded.healthy.address("pgd_lock"), 1, 1)
    held = [(lock.kind, lock.name) for lock in Case(recorded.observe()).unsettled]
    assert held == [("zone", f"zone {zone.name} lock"), ("pgd_lock", "pgd_lock")]


def test_every_kind_of_lock_that_a_rule_names_can_be_seen(recorded: RecordedGuest) -> None:
    from kvmtools.compare.locks import GLOBAL_LOCKS

    kinds = {"kmap_lock", "page_address_htable", "zone", "pcp", *GLOBAL_LOCKS}
    assert {lock for each in RULES for lock in each.locks} <= kinds

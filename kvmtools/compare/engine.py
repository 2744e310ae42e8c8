"""Run the rules over one observation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kvmtools.compare.case import Case
from kvmtools.compare.identity import identity
from kvmtools.compare.needs import NEEDS
from kvmtools.compare.rule import Examination, Rule
from kvmtools.compare.rules import RULES
from kvmtools.errors import Absent, Inconclusive, MemoryFault, Unobserved, UsageError
from kvmtools.findings import SHOWN, Finding, Outcome, Result, Status
from kvmtools.observe.progress import setting_up

if TYPE_CHECKING:
    from kvmtools.observe.observed import Observed


def check(observed: Observed, only: Sequence[str] | None = None, skip: Sequence[str] | None = None) -> Result:
    """Compare one observation with what the model predicts for its configuration.

    :param only: ids or groups of rules to run, all if empty
    :param skip: ids or groups to leave out
    :raises UsageError: if a word in ``only`` or ``skip`` names no rule
    """
    return check_case(Case(observed), chosen(only or (), skip or ()))


def chosen(only: Sequence[str], skip: Sequence[str]) -> tuple[Rule, ...]:
    """The rules that are meant.

    :raises UsageError: if a word names no rule or group, or no rule is left
    """
    for word in (*only, *skip):
        if not any(rule.named_by((word,)) for rule in RULES):
            groups = ", ".join(dict.fromkeys(rule.group for rule in RULES))
            raise UsageError(
                f"no rule is called {word!r}", hint=f"`kvmtools rules` lists them; groups: {groups}"
            )
    left = tuple(rule for rule in RULES if (not only or rule.named_by(only)) and not rule.named_by(skip))
    if not left:
        raise UsageError("no rule is left", hint="what is skipped is all that was chosen")
    return left


def check_case(case: Case, rules: Sequence[Rule]) -> Result:
    """Examine every rule, then take out of each what another rule's finding explains."""
    seen = {rule.id: _examine(rule, case) for rule in rules}
    outcomes = []
    for rule in rules:
        explained = _keys(seen[other] for other in rule.defers_to if other in seen)
        outcomes.append(_outcome(rule, seen[rule.id], explained, case))
    return Result(tuple(outcomes), identity(case), case.observed.registers)


def _examine(rule: Rule, case: Case) -> Examination:
    """What the rule sees; of a guest so damaged that one side has nothing to say, why there is nothing to see."""
    if where := setting_up(case.observed.kernel, case.observed.registers):
        return Examination(0, skipped=f"the kernel is still booting, {where}: nothing of it is final")
    try:
        for need in rule.needs:
            if reason := NEEDS[need](case):
                return Examination(0, skipped=reason)
        seen = rule.check(case)
    except Unobserved as missing:
        return Examination(0, skipped=_why(missing))
    except (UsageError, Inconclusive) as refusal:
        return Examination(0, skipped=f"the model cannot predict this guest: {refusal}")
    return replace(seen, findings=tuple(_completed(rule, found) for found in seen.findings))


def _why(missing: Unobserved) -> str:
    if isinstance(missing, Absent):
        return missing.why
    return f"what it needs cannot be read: {missing}" if isinstance(missing, MemoryFault) else missing.message


def _completed(rule: Rule, found: Finding) -> Finding:
    """The finding with its rule's id, and the advice about this very place."""
    places = {"virtual": found.virtual, "physical": found.physical, "pfn": found.pfn}
    advice = rule.next.format(**{name: "?" if at is None else f"{at:#x}" for name, at in places.items()})
    return replace(found, rule=rule.id, next=found.next or advice)


def _keys(examinations: Iterable[Examination]) -> frozenset[str]:
    return frozenset(key for seen in examinations for found in seen.findings for key in found.keys)


def _outcome(rule: Rule, seen: Examination, explained: frozenset[str], case: Case) -> Outcome:
    outcome = Outcome(
        rule.id,
        rule.truth,
        rule.source,
        Status.AGREE,
        examined=seen.examined,
        unit=rule.unit,
        defers_to=rule.defers_to,
        about=rule.about,
    )
    reason = seen.skipped or ("" if seen.examined else f"nothing to examine: there were no {rule.unit}")
    if reason and not seen.total:
        return replace(outcome, status=Status.SKIPPED, reason=reason)
    own = tuple(found for found in seen.findings if not found.keys & explained)
    consequences = tuple(found for found in seen.findings if found.keys & explained)
    total = seen.total - len(consequences)
    outcome = replace(outcome, consequences=consequences[:SHOWN], consequences_total=len(consequences))
    if not total:
        return outcome
    held = tuple(lock.name for lock in case.unsettled if lock.kind in rule.locks)
    return replace(outcome, status=Status.DISCREPANCY, findings=own[:SHOWN], total=total, held=held)

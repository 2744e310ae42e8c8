"""Tell a fault from a moment: observe a running guest again until what was found has lasted.

A guest is stopped between any two instructions.  A page may be half-way from a list to its new owner, a slot
counted but not yet hashed.  Where there are lock words (SMP), a rule names the locks that cover its moments;
where there are none (UP), or where the kernel changes two words without a lock, only time tells.  So a
finding counts when it was seen with the same values in :data:`CONFIRMATIONS` samples in a row, and no lock
that covers it was held in the last.  A guest that stands still (a core, a guest that was found paused) shows one
moment however often it is observed: what no lock covers is a finding, the rest cannot be judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kvmtools.compare.engine import check
from kvmtools.findings import Finding, Outcome, Result, Status

if TYPE_CHECKING:
    from kvmtools.observe.observed import Observed

CONFIRMATIONS = 3
ATTEMPTS = 8
FIRST_GAP = 0.005
"""Seconds that the guest runs between the first two samples; the gaps double."""

Identity = tuple[str, str, str]


def settle(
    take: Callable[[], Observed],
    only: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    *,
    runs: Callable[[], bool] = lambda: True,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Observe and compare, again while something was found that may be a transient.

    Nothing found in the first sample is the verdict: most checks take one sample.  What is still there after
    ``attempts`` samples, but was always seen with its lock held, cannot be judged: its rule is skipped and
    says so.

    :param take: observes the guest now
    :param runs: whether the guest runs between two calls of ``take``; asked after the first
    :raises UsageError: if a word in ``only`` or ``skip`` names no rule
    """
    result = check(take(), only, skip)
    lasting = _identities(result)
    ever = set(lasting)
    samples, gap = 1, FIRST_GAP
    moves = runs()
    while (
        moves and lasting and samples < attempts and (samples < CONFIRMATIONS or _under_lock(result, lasting))
    ):
        sleep(gap)
        gap *= 2
        result = check(take(), only, skip)
        now = _identities(result)
        ever |= now
        lasting &= now
        samples += 1
    judged = samples >= CONFIRMATIONS or not moves
    outcomes = tuple(_judged(outcome, lasting, judged=judged) for outcome in result.outcomes)
    return replace(result, outcomes=outcomes, samples=samples, transients=len(ever - lasting))


def _identities(result: Result) -> set[Identity]:
    return {finding.identity for finding in result.findings}


def _under_lock(result: Result, lasting: set[Identity]) -> bool:
    """Whether a lasting finding was seen, in this sample, with a lock held that covers it."""
    return any(outcome.held and _of(outcome, lasting) for outcome in result.outcomes)


def _of(outcome: Outcome, lasting: set[Identity]) -> tuple[Finding, ...]:
    return tuple(finding for finding in outcome.findings if finding.identity in lasting)


def _judged(outcome: Outcome, lasting: set[Identity], *, judged: bool) -> Outcome:
    """The outcome with only what lasted; a flood is past doubt, so what was not shown keeps counting with it."""
    if outcome.status is not Status.DISCREPANCY:
        return outcome
    kept = _of(outcome, lasting)
    if not kept:
        return replace(outcome, status=Status.AGREE, findings=(), total=0, held=())
    total = outcome.total - (len(outcome.findings) - len(kept))
    if outcome.held and judged:
        reason = (
            f"{', '.join(outcome.held)} held whenever it might have counted: it may be a change under way"
        )
        return replace(outcome, status=Status.SKIPPED, findings=(), total=0, unsettled=kept, reason=reason)
    return replace(outcome, findings=kept, total=total)

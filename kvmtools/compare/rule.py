"""A rule: one sentence of truth, where it comes from, and the function that looks for its violations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsInt

from numpy.typing import NDArray

from kvmtools.findings import Finding

if TYPE_CHECKING:
    from kvmtools.compare.case import Case

SPELLED = 1000
"""Violations of one rule that are spelled out; a torn-up mem_map has millions, and they are only counted."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What a rule saw: how many things it compared and which of them violate it.

    :param total: violations, of which ``findings`` spells out the first :data:`SPELLED`
    :param skipped: why there was nothing to compare after all, or empty
    """

    examined: int
    findings: tuple[Finding, ...] = ()
    total: int = 0
    skipped: str = ""

    def __add__(self, other: Examination) -> Examination:
        return Examination(
            self.examined + other.examined,
            (self.findings + other.findings)[:SPELLED],
            self.total + other.total,
            self.skipped or other.skipped,
        )


def violations(
    examined: SupportsInt, which: Sequence[Any] | NDArray[Any], spell: Callable[[Any], Finding]
) -> Examination:
    """An examination whose violations are the rows ``which`` (a list, or an array of indices)."""
    return Examination(int(examined), tuple(spell(row) for row in which[:SPELLED]), len(which))


@dataclass(frozen=True, slots=True)
class Rule:
    """One invariant of FACTS section E, or a part of one.

    :param id: stable, ``group.what-it-says``
    :param truth: the invariant in one sentence
    :param source: where the truth is written
    :param exceptions: when it legally does not hold
    :param invariants: numbers in FACTS section E
    :param next: where a person should look after a finding
    :param unit: what ``examined`` counts, in the plural
    :param needs: what must have been observed, keys of :data:`kvmtools.compare.needs.NEEDS`
    :param locks: kinds of lock under which the kernel breaks the truth for a moment
    :param defers_to: rules whose findings explain findings of this one about the same subject
    """

    id: str
    truth: str
    source: str
    check: Callable[[Case], Examination]
    unit: str
    next: str
    exceptions: str = "none"
    invariants: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    defers_to: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]

    def named_by(self, words: Sequence[str]) -> bool:
        """Whether one of ``words`` is this rule's id or group."""
        return self.id in words or self.group in words

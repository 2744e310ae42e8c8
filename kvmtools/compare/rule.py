"""A rule with the function that looks for its violations, and what such a function says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsInt

from numpy.typing import NDArray

from kvmtools.findings import Finding, RuleEntry

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
class Rule(RuleEntry):
    """A rule that can be asked.

    :param check: looks for what violates the truth
    :param invariants: numbers of the invariants that the rule holds a guest to
    """

    check: Callable[[Case], Examination] = field(kw_only=True)
    invariants: tuple[int, ...] = field(default=(), kw_only=True)

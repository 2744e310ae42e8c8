"""What a comparison says: its rules, their findings, the outcome of one rule, the result of all of them.

Plain records; nothing here decides anything, so that a renderer needs no more than this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kvmtools.records import Registers
from kvmtools.show.style import count

_VERDICTS = {0: "agrees with the model", 1: "differs from the model", 5: "inconclusive"}
"""By exit code."""

SHOWN = 100
"""Findings of one rule that are kept and rendered; all of them are counted."""


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """What a rule of :mod:`kvmtools.compare` says of itself.

    :param id: stable, ``group.what-it-says``
    :param truth: the invariant in one sentence
    :param source: where the truth is written
    :param unit: what ``examined`` counts, in the plural
    :param next: where a person should look after a finding
    :param exceptions: when it legally does not hold
    :param needs: what must have been observed, keys of :data:`kvmtools.compare.needs.NEEDS`
    :param locks: kinds of lock under which the kernel breaks the truth for a moment
    :param defers_to: rules whose findings explain findings of this one about the same subject
    :param about: the variable, function or ``struct`` that its findings are about: a report points to its declaration
    """

    id: str
    truth: str
    source: str
    unit: str
    next: str
    exceptions: str = "none"
    needs: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    defers_to: tuple[str, ...] = ()
    about: str = ""

    @property
    def group(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]

    def named_by(self, words: Sequence[str]) -> bool:
        """Whether one of ``words`` is this rule's id or group."""
        return self.id in words or self.group in words


@dataclass(frozen=True, slots=True)
class Finding:
    """One discrepancy.

    ``subject`` is what is wrong, in canonical words: ``slot 17``, ``pfn 0x1234``, ``zone NORMAL order 3``,
    ``virtual 0xc1000000``, ``table 0x2a000``, ``field high_memory``.  ``touches`` names further subjects that the same
    fault makes look wrong.  A rule fills the rest with what it knows; the engine adds ``rule`` and a ``next`` of the
    rule's own where the finding has none.

    :param virtual: the address that is mapped wrong, or of a wrong word; ``virtual_is`` says which to a person
    :param physical: where the wrong entry or word stands; ``physical_is`` says which to a person
    :param symbol: the wrong word by its name in C
    :param pfn: the page that it is about
    :param raw: the raw entry or word that was observed
    :param persists_as: what must be equal in two samples for this to be one lasting fault; ``observed`` unless the
        numbers move while the fault stays
    """

    subject: str
    expected: str
    observed: str
    rule: str = ""
    virtual: int | None = None
    physical: int | None = None
    pfn: int | None = None
    symbol: str = ""
    raw: int | None = None
    next: str = ""
    touches: tuple[str, ...] = ()
    persists_as: str = ""
    virtual_is: str = "virtual"
    physical_is: str = "physical"

    @property
    def keys(self) -> frozenset[str]:
        """Every subject that this finding accounts for."""
        return frozenset((self.subject, *self.touches))

    @property
    def identity(self) -> tuple[str, str, str]:
        """Equal in two samples of a running guest if both show the same fault."""
        return self.rule, self.subject, self.persists_as or self.observed


class Status(StrEnum):
    """How a rule came out."""

    AGREE = "agree"
    DISCREPANCY = "discrepancy"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule said about one guest.

    :param rule: the rule's id
    :param truth: its sentence, and ``source`` where that is written
    :param defers_to: rules whose findings explain its consequences
    :param findings: the first :data:`SHOWN`
    :param total: all findings, shown or not
    :param consequences: discrepancies not counted because a finding of another rule explains them (:data:`SHOWN`)
    :param consequences_total: all of those, shown or not
    :param unsettled: what looked wrong in every sample, with a lock held in the one that would have counted
    :param examined: how many things were compared
    :param unit: what those things are, in the plural
    :param reason: why the rule was skipped
    :param held: locks that the rule depends on and that were held in the (last) sample
    :param about: what its findings are about, a name in C
    """

    rule: str
    truth: str
    source: str
    status: Status
    findings: tuple[Finding, ...] = ()
    total: int = 0
    consequences: tuple[Finding, ...] = ()
    unsettled: tuple[Finding, ...] = ()
    examined: int = 0
    unit: str = ""
    reason: str = ""
    held: tuple[str, ...] = ()
    consequences_total: int = 0
    defers_to: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on a guest.

    :param kernel: who was looked at, see :func:`kvmtools.compare.identity.identity`
    :param core: the core file, if it was one that was looked at
    :param samples: how many times the guest was observed
    :param transients: findings of an earlier sample that were gone in a later one
    :param live: facts of this run that another run over the same memory would not share (the pause, the transport)
    :param declared: where in the kernel's source the names that outcomes are ``about`` are declared,
        ``"mm/highmem.c:141"``; empty unless that was asked for
    """

    outcomes: tuple[Outcome, ...]
    kernel: dict[str, Any] = field(default_factory=dict)
    registers: tuple[Registers, ...] = ()
    samples: int = 1
    transients: int = 0
    live: dict[str, str | float] = field(default_factory=dict)
    core: str = ""
    declared: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.summary

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings that are shown, in the order of the rules."""
        return tuple(finding for outcome in self.outcomes for finding in outcome.findings)

    @property
    def total(self) -> int:
        """All findings, shown or not."""
        return sum(outcome.total for outcome in self.outcomes)

    @property
    def consequences_total(self) -> int:
        """All discrepancies that findings explain, shown or not; :attr:`total` does not count them."""
        return sum(outcome.consequences_total for outcome in self.outcomes)

    def count(self, status: Status) -> int:
        """How many rules came out as ``status``."""
        return sum(outcome.status is status for outcome in self.outcomes)

    @property
    def summary(self) -> str:
        """The verdict, how many rules came out how, how often the guest was looked at, and that its kernel is still
        booting or has panicked, in one line.
        """
        counts = [f"{count(len(self.outcomes), 'rule')}: {self.count(Status.AGREE)} agree"]
        if broken := self.count(Status.DISCREPANCY):
            found = count(self.total, "discrepancy", "discrepancies")
            if explained := self.consequences_total:
                found += f", which {'explains' if self.total == 1 else 'explain'} {explained:,} more"
            counts.append(f"{broken} broken ({found})")
        if skipped := self.count(Status.SKIPPED):
            counts.append(f"{skipped} skipped")
        line = f"{_VERDICTS[self.exit_code]}; {', '.join(counts)}"
        if self.samples > 1:
            line += f"; {count(self.samples, 'sample')}"
        if self.transients:
            line += f", {count(self.transients, 'transient')} gone on a second look"
        if state := self.kernel.get("state"):
            line += f"; {str(state).partition(':')[0]}"
        return line

    @property
    def exit_code(self) -> int:
        """0 agree, 1 discrepancy, 5 nothing could be compared, or what looks wrong could not be judged."""
        if self.count(Status.DISCREPANCY):
            return 1
        if any(outcome.unsettled for outcome in self.outcomes):
            return 5
        return 0 if self.count(Status.AGREE) else 5

"""A field of a running guest is overwritten through gdb: the rule meant for it finds it; restored, all agrees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from breaks import Break, buddy, hashing, memmap, pagetable, pkmap
from gdb_facts import GdbFacts
from running_patient import RunningPatient

import kvmtools
from kvmtools.api.session import Session
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.compare.case import Case
from kvmtools.compare.settle import settle
from kvmtools.findings import Result

SLOTS = 300

BREAKS = (
    Break("pkmap.pte-matches-count", pkmap.used_slot_forgotten),
    Break("pkmap.count-not-negative", pkmap.counted_below_zero),
    Break("pkmap.pte-matches-count", pkmap.pte_cleared),
    Break("pkmap.slot-hashed", hashing.slot_leads_to_another_page),
    Break("pkmap.slot-hashed", hashing.entry_names_another_page),
    Break("pkmap.hash-entry-index", hashing.entry_names_another_slot),
    Break("pkmap.cursor-in-range", pkmap.cursor_out_of_range),
    Break("kmap-local.entries", pkmap.first_entry_moved),
    Break("memmap.zone", memmap.used_page_in_wrong_zone),
    Break("memmap.zone", memmap.free_page_in_wrong_zone),
    Break("buddy.nr-free", buddy.nr_free_miscounted),
    Break("pagetable.permissions", pagetable.text_made_writable),
    Break("pagetable.kernel-only", pagetable.lowmem_opened_to_user_mode),
)
"""Of each kind one at least: count, PTE, hash entry, cursor, pointer, zone in flags, free-list length, permission."""


@pytest.fixture
def session(guest: Guest) -> Iterator[Session]:
    """The guest, attached and at rest, with pkmap in every state."""
    with Agent(guest.agent) as agent:
        agent.driver("free")
        agent.driver(f"mix {SLOTS}")
        agent.quiesce()
        with kvmtools.open(guest=guest.name) as kernel:
            yield kernel.session
        agent.driver("free")


def judge(session: Session) -> Result:
    return settle(session.observe, sleep=lambda _seconds: None)


def found(result: Result) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in result.findings]


def test_pkmap_in_every_state_agrees(session: Session) -> None:
    """At least 300 slots after a wrap and a flush, in the states 0, 1, 2 and more."""
    observed = session.observe()
    assert observed.pkmap is not None
    counts = observed.pkmap.counts
    assert (counts != 0).sum() >= SLOTS
    assert {0, 1, 2} < set(counts.tolist())
    result = judge(session)
    assert found(result) == []
    assert result.exit_code == 0


def test_each_break_is_found_by_its_rule_and_heals(session: Session) -> None:
    """The guest stands still throughout: it must not run with its page tables broken."""
    vmlinux = session.target.vmlinux
    assert vmlinux is not None
    with GdbFacts.of(vmlinux) as facts, session.target.paused(), session.target.gdb() as stub:
        healthy = Case(session.observe())
        for brk in BREAKS:
            patient = RunningPatient(healthy, facts, stub)
            try:
                subject = brk.do(patient)
                result = judge(session)
            finally:
                patient.restore()
            assert found(result) == [(brk.rule, subject)], brk
            assert result.exit_code == 1
        assert found(judge(session)) == []
    assert found(judge(session)) == []

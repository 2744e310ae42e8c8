"""``--gdb`` alone says what ``--qemu`` says: of healthy guests, planted faults, and one with breakpoints in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from breaks import memmap, pagetable
from gdb_facts import GdbFacts
from running_patient import RunningPatient

import kvmtools
from kvmtools.api.open_kernel import OpenKernel
from kvmtools.attach.monitor import stub_monitor
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.attach.monitor.stub_monitor import StubMonitor
from kvmtools.boot.guests.record import Guest
from kvmtools.compare.case import Case
from kvmtools.findings import Result

INT3 = b"\xcc"


@pytest.fixture
def by_qmp(guest: Guest) -> Iterator[OpenKernel]:
    """The guest through QMP, which leaves its gdbstub free."""
    with kvmtools.open(guest=guest.name) as kernel:
        yield kernel


@contextmanager
def through_the_stub(guest: Guest) -> Iterator[OpenKernel]:
    with kvmtools.open(gdb=str(guest.gdb), symbols=guest.vmlinux) as kernel:
        yield kernel


def said(result: Result) -> list[tuple[str, str, str, str]]:
    return [(each.rule, each.subject, each.expected, each.observed) for each in result.findings]


def verdicts(result: Result) -> list[tuple[str, str]]:
    return [(each.rule, str(each.status)) for each in result.outcomes]


def test_a_healthy_guest_agrees_and_runs_on(guest: Guest, by_qmp: OpenKernel) -> None:
    with through_the_stub(guest) as kernel:
        result = kernel.check()
        assert (said(result), result.exit_code) == ([], 0)
        assert verdicts(result) == verdicts(by_qmp.check())
        (pause,) = kernel.pauses[-1:]
        assert (pause.was_running, pause.held) == (True, True)
        assert by_qmp.session.target.monitor.running()
        assert kernel.session.target.vmcoreinfo() == by_qmp.session.target.vmcoreinfo()
        assert "OSRELEASE=" in str(kernel.session.target.vmcoreinfo())
        assert kernel.regs().source == "GDB, and the human monitor agrees"
    assert by_qmp.session.target.monitor.running()


def test_the_same_findings_for_a_planted_fault(nopae_guest: Guest) -> None:
    with (
        GdbFacts.of(nopae_guest.vmlinux) as facts,
        kvmtools.open(guest=nopae_guest.name) as by_qmp,
        by_qmp.paused(),
    ):
        target = by_qmp.session.target
        patient = RunningPatient(Case(by_qmp.observe()), facts)
        with patient.through(target.gdb()):
            subjects = [memmap.used_page_in_wrong_zone(patient), pagetable.text_made_writable(patient)]
        try:
            seen = said(by_qmp.check(samples=1))
            with through_the_stub(nopae_guest) as kernel:
                assert said(kernel.check(samples=1)) == seen
                assert not kernel.pauses[-1].was_running
            assert not target.monitor.running(), "it was paused, and stays so"
        finally:
            with patient.through(target.gdb()):
                patient.restore()
    assert {subject for _, subject, *_ in seen} == set(subjects)


def test_breakpoints_in_the_kernels_text_are_no_damage(pae_guest: Guest) -> None:
    """A gdb writes int3 where QEMU's own breakpoints are not to be used; those do not alter memory."""
    with kvmtools.open(guest=pae_guest.name) as by_qmp, by_qmp.paused():
        places = [by_qmp.address(name) for name in ("schedule", "_printk", "do_exit")]
        target = by_qmp.session.target
        with target.gdb() as gdb:
            before = [gdb.read(place, 1) for place in places]
            for place in places:
                gdb.write(place, INT3)
        try:
            with through_the_stub(pae_guest) as kernel:
                assert [kernel.read(place, 1) for place in places] == [INT3] * len(places)
                assert said(kernel.check()) == []
        finally:
            with target.gdb() as gdb:
                for place, byte in zip(places, before, strict=True):
                    gdb.write(place, byte)


@pytest.mark.parametrize("running", [True, False])
def test_whether_it_ran_is_seen_in_its_threads(
    nopae_guest: Guest, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    """An idle guest, and a QEMU that, as from 8.1 on, does not tell of the stop that a connection is."""
    hear = StubMonitor._reply

    def deaf(stub: StubMonitor, *arguments: Any) -> bytes:
        reply = hear(stub, *arguments)
        stub._told = False
        return reply

    monkeypatch.setattr(StubMonitor, "_reply", deaf)
    monkeypatch.setattr(stub_monitor, "_SILENT_FROM", (0, 0))
    with QmpMonitor(str(nopae_guest.drgn_qmp)) as qmp:
        try:
            for _ in range(10):
                (qmp.cont if running else qmp.stop)()
                with StubMonitor(str(nopae_guest.gdb)) as stub:
                    assert stub.running() is running
                assert qmp.running() is running
        finally:
            qmp.cont()

"""``regs``: two sources, the paging mode, whose page table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kvmtools.api.session import Session
from kvmtools.attach.monitor.pause import NoPause, Pause
from kvmtools.records import Registers
from kvmtools.show.registers import paging_mode

Invoke = Callable[..., Any]


MONITOR = SimpleNamespace(name="QMP", resumes="QMP's cont")


@pytest.fixture(autouse=True)
def _observed(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = SimpleNamespace(pti=False)
    monkeypatch.setattr(
        "kvmtools.observe.boot.configuration.observe_configuration", lambda _kernel: configuration
    )
    process = SimpleNamespace(pid=1, comm="init", pgd=0x5000)
    monkeypatch.setattr("kvmtools.observe.tasks.processes.observe_processes", lambda _kernel: (process,))


def test_gdb_and_qmp_agree(invoke: Invoke, tiny: Any) -> None:
    tiny.monitor, tiny.by_gdb = MONITOR, tiny.cpus
    document = json.loads(invoke("regs", "--format", "json").out)
    assert document["source"] == "GDB, and QMP agrees"
    assert document["disagreements"] == []
    assert [cpu["page_table"] for cpu in document["vcpus"]] == ["swapper_pg_dir", "pid 1 (init)"]
    assert document["vcpus"][0]["cr3"] == "0x1000"
    assert document["vcpus"][0]["region"] == "direct map"
    assert document["vcpus"][0]["paging"] == "PAE, NX, global, WP"


def test_gdb_and_qmp_disagree(invoke: Invoke, tiny: Any) -> None:
    tiny.monitor, tiny.by_gdb = MONITOR, (replace(tiny.cpus[0], cr3=0x9000), tiny.cpus[1])
    outcome = invoke("regs")
    assert "read by GDB, and QMP disagrees" in outcome.out
    assert "0x9000" in outcome.out
    assert "unknown" in outcome.out
    assert "GDB and QEMU's monitor disagree: vCPU 0: cr3 is 0x9000 against 0x1000" in outcome.err


def test_without_a_gdb_socket(invoke: Invoke, tiny: Any) -> None:
    tiny.monitor = MONITOR
    assert "read by QMP alone: there is no GDB socket" in invoke("regs").out


@pytest.mark.usefixtures("tiny")
def test_a_core_has_only_its_notes(invoke: Invoke) -> None:
    assert "read by the core's notes" in invoke("regs").out


@pytest.mark.parametrize(
    ("eip", "cr0", "place"),
    [
        (0xFD09A, 0x11, "firmware, not started"),
        (0xFFFF_FFF0, 0x11, "firmware, not started"),
        (0xFFF0, 0x10, "real mode, not started"),
        (0x20_0000, 0x11, "kernel image, paging not yet on"),
        (0x800_0000, 0x11, "paging off, not started"),
    ],
)
def test_without_paging_there_is_no_user_and_no_page_table(
    invoke: Invoke, tiny: Any, eip: int, cr0: int, place: str
) -> None:
    tiny.cpus = tiny.cpus[0], replace(tiny.cpus[1], eip=eip, cr0=cr0, cr3=0)
    (_, second) = json.loads(invoke("regs", "--format", "json").out)["vcpus"]
    assert (second["region"], second["page_table"], second["paging"]) == (place, "none", "off")
    for command in (("vtop", "0x1000"), ("walk",)):
        outcome = invoke(*command, "--cpu", "1")
        assert outcome.code == 2
        assert "vCPU 1 has no page table: its paging is off" in str(outcome.error)


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({}, "32-bit, WP"),
        ({"cr0": 0x11}, "off"),
        ({"cr4": 0x10}, "32-bit, 4 MiB pages, WP"),
        ({"cr4": 0x10, "efer": 0x800}, "32-bit, 4 MiB pages, WP"),
        ({"cr4": 0xA0, "efer": 0x800}, "PAE, NX, global, WP"),
        ({"cr4": 0x30, "efer": None}, "PAE, WP"),
        ({"cr0": 0x8000_0011, "cr4": 0x20}, "PAE"),
    ],
)
def test_paging_modes(changes: dict[str, int], mode: str) -> None:
    assert paging_mode(replace(Registers(0, 0, 0x8001_0011, 0, 0, 0), **changes)) == mode


def test_a_named_gdb_socket_must_serve(invoke: Invoke, tiny: Any) -> None:
    tiny.monitor = MONITOR
    outcome = invoke("regs", "--qemu", "q", "--gdb", "g")
    assert outcome.code == 3
    assert "there is no GDB socket" in str(outcome.error)


def test_a_guest_that_must_not_be_stopped_meets_no_gdb(
    invoke: Invoke, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.monitor, tiny.by_gdb = MONITOR, (replace(tiny.cpus[0], cr3=0x9000), tiny.cpus[1])
    monkeypatch.setattr(type(tiny), "paused", lambda _self: NoPause(was_running=True))
    outcome = invoke("regs", "--no-pause")
    assert "read by QMP alone: gdb would stop the guest" in outcome.out
    assert "0x9000" not in outcome.out


@pytest.mark.parametrize("held", [True, False])
def test_a_guest_that_was_paused_before_is_reported_so(tiny: Any, held: bool) -> None:
    tiny.monitor, tiny.description, tiny.transport = MONITOR, "QEMU", "ram-file"
    session, before = Session(tiny, tiny), Pause(was_running=False, held=held)
    assert (
        session.live([before])["consistency"]
        == "the guest was paused before, and stays so; QMP's cont lets it run"
    )
    assert "pause_milliseconds" not in session.live([before])
    stopped = Pause(was_running=True, milliseconds=3.04, held=True)
    assert session.live([before, stopped])["pause_milliseconds"] == 3.0

"""Commands on guests that are damaged, or that change while they are read: an answer, or one clear line."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from opened_kernel import always_opens
from recorded_guest import RecordedGuest, load
from whole_memory import WholeMemory

from kvmtools.api.session import ATTEMPTS, Session
from kvmtools.attach.monitor.pause import NoPause
from kvmtools.errors import Inconclusive, MemoryFault

Invoke = Callable[..., Any]
NOWHERE = 0x100


class Patient:
    """A recorded guest behind a session; before pause n, ``events[n]`` happens to it."""

    def __init__(self, guest: RecordedGuest, *, runs: bool) -> None:
        self.guest = guest
        self.runs = runs
        self.paused = 0
        self.events: dict[int, Callable[[], None]] = {}
        target = SimpleNamespace(
            monitor=None,
            description="core",
            registers=lambda: guest.registers,
            paused=self._pause,
            close=lambda: None,
        )
        kernel = guest.kernel.with_memory(WholeMemory(guest.snapshot))
        self.session = Session(target, kernel)  # type: ignore[arg-type]

    def _pause(self) -> NoPause:
        self.events.get(self.paused, lambda: None)()
        self.paused += 1
        return NoPause(was_running=self.runs)

    def variable(self, name: str, value: int) -> Callable[[], None]:
        return lambda: self.guest.write(self.guest.healthy.address(name), value)


@pytest.fixture(params=["pae", "nopae"])
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """A damaged guest that stands still, which every command finds."""
    found = Patient(load(request.param), runs=False)

    always_opens(monkeypatch, found.session)
    return found


@pytest.fixture
def running() -> Patient:
    """A guest that may not be paused."""
    return Patient(load("pae"), runs=True)


def test_what_needs_no_mem_map_does_without(patient: Patient, invoke: Invoke) -> None:
    patient.variable("mem_map", NOWHERE)()
    assert "vmalloc" in invoke("walk").out
    assert "pkmap" in invoke("layout").out
    assert invoke("regs").code == 0
    for command in ("memmap", "zones", "pkmap"):
        said = invoke(command)
        assert said.code == 3
        assert str(said.error) == "virtual address 0x100: is not in the linear map (reading mem_map)"


def test_a_damaged_guest_is_judged(patient: Patient, invoke: Invoke) -> None:
    patient.variable("mem_map", NOWHERE)()
    said = invoke("check")
    assert said.code == 1
    assert "✗ guest.readable" in said.out
    assert "where     mem_map, virtual 0x100" in said.out


def test_a_process_that_is_not_found_may_be_behind_the_break(patient: Patient, invoke: Invoke) -> None:
    link = patient.guest.vmlinux.offset("struct task_struct", "tasks")
    patient.guest.write(patient.guest.healthy.address("init_task") + link, NOWHERE)
    said = invoke("vtop", "--pid", "1", "0x1000")
    assert said.code == 2
    assert "there is no process 1" in str(said.error)
    assert "not all can be read: virtual address" in str(said.error)


def test_the_live_layout_is_shown_though_the_model_has_none(patient: Patient, invoke: Invoke) -> None:
    place = patient.guest.healthy.address("boot_cpu_data")
    patient.guest.write(place + patient.guest.vmlinux.offset("struct cpuinfo_x86", "x86_phys_bits"), 255, 1)
    line = patient.guest.read(patient.guest.healthy.address("saved_command_line"))
    patient.guest.write(line, int.from_bytes(b"vmalloc=2000M ", "little"), 14)
    said = invoke("layout")
    assert said.code == 0
    assert "the model cannot predict this guest" in said.err
    assert "fixaddr_top" in said.out


def test_lists_in_flux_are_read_again(running: Patient) -> None:
    healthy = running.guest.read(running.guest.healthy.address("mem_map"))
    running.events = {0: running.variable("mem_map", NOWHERE), 2: running.variable("mem_map", healthy)}
    seen = running.session.observe()
    assert seen.broken == []
    assert running.paused == 3


def test_lists_that_are_never_at_rest_are_inconclusive(running: Patient) -> None:
    running.events = {0: running.variable("mem_map", NOWHERE)}
    with pytest.raises(Inconclusive, match="mem_map: virtual address 0x100"):
        running.session.observe()
    assert running.paused == ATTEMPTS


def test_what_is_held_is_read_again_only_if_it_runs(running: Patient) -> None:
    def read() -> int:
        if running.paused < 3:
            raise MemoryFault(NOWHERE, "is not in the linear map")
        return running.paused

    assert running.session.held(read) == 3
    running.paused = -ATTEMPTS
    with pytest.raises(Inconclusive, match="0x100"):
        running.session.held(read)
    running.paused, running.runs = 0, False
    with pytest.raises(MemoryFault):
        running.session.held(read)
    assert running.paused == 1

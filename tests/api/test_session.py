"""What a check says of the guest is of this check, whatever was asked of the same guest before."""

from __future__ import annotations

from typing import Any

import pytest
from opened_kernel import recorded_session

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session
from kvmtools.attach.monitor.pause import NoPause, Pause, PausedGuest


class Machine:
    """A monitor: a guest that runs, until it is stopped."""

    address = "qmp.sock"
    resumes = "QMP's cont"

    def __init__(self) -> None:
        self.runs = True

    def running(self) -> bool:
        return self.runs

    def stop(self) -> None:
        self.runs = False

    def cont(self) -> None:
        self.runs = True


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def session(machine: Machine) -> Session:
    """A recorded guest behind that monitor."""
    session = recorded_session("nopae")
    target: Any = session.target
    target.monitor, target.paused = machine, lambda: PausedGuest(machine)  # type: ignore[arg-type]
    return session


@pytest.fixture
def kernel(session: Session) -> OpenKernel:
    return OpenKernel(session)


def live(kernel: OpenKernel) -> dict[str, Any]:
    return kernel.check(only=["layout"]).live


def test_the_pause_of_an_earlier_check_is_not_reported_again(kernel: OpenKernel, machine: Machine) -> None:
    kernel.session.pauses.append(Pause(was_running=True, milliseconds=9999.0, held=True))
    assert live(kernel)["pause_milliseconds"] < 9999.0
    machine.runs = False
    assert live(kernel)["consistency"] == "the guest was paused before, and stays so; QMP's cont lets it run"
    machine.runs = True
    assert "consistency" not in live(kernel)


def test_whether_the_guest_runs_is_asked_of_the_last_look(kernel: OpenKernel, machine: Machine) -> None:
    kernel.zones()
    assert kernel.session.runs()
    machine.runs = False
    kernel.zones()
    assert not kernel.session.runs(), "a check would wait for a guest that stands still to move"


def test_a_guest_that_we_hold_was_not_paused_by_somebody_else(kernel: OpenKernel, machine: Machine) -> None:
    with kernel.paused() as pause:
        assert live(kernel)["consistency"] == "this program held the guest before, and holds it still"
        with kernel.paused():
            assert "holds it still" in live(kernel)["consistency"]
        assert "holds it still" in live(kernel)["consistency"]
        assert not machine.runs
    assert machine.runs
    assert pause in kernel.pauses
    assert "pause_milliseconds" in live(kernel)


def test_a_guest_that_was_paused_before_we_held_it_still_was(kernel: OpenKernel, machine: Machine) -> None:
    machine.runs = False
    with kernel.paused():
        assert (
            live(kernel)["consistency"] == "the guest was paused before, and stays so; QMP's cont lets it run"
        )
    assert not machine.runs


def test_a_guest_that_is_not_to_be_paused_is_not_said_to_be_held(session: Session) -> None:
    session.target.paused = lambda: NoPause(was_running=True)  # type: ignore[method-assign]
    kernel = OpenKernel(session)
    with kernel.paused():
        assert live(kernel)["consistency"].startswith("read while the guest ran")


def test_a_question_that_fails_ends_the_hold(kernel: OpenKernel, machine: Machine) -> None:
    def ask() -> None:
        with kernel.paused():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask()
    assert machine.runs
    assert not kernel.session.holding

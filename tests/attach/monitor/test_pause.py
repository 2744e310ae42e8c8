from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from kvmtools.attach.monitor.pause import NoPause, PausedGuest
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.errors import AttachError, GuestVanished, MemoryFault


@pytest.fixture
def monitor(fake_qmp: Any) -> Iterator[QmpMonitor]:
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        yield monitor


def test_the_guest_is_held_and_let_go(fake_qmp: Any, monitor: QmpMonitor) -> None:
    with PausedGuest(monitor) as pause:
        assert not fake_qmp.running
        assert pause.milliseconds == 0
        time.sleep(0.02)
    assert fake_qmp.running
    assert (pause.was_running, pause.held) == (True, True)
    assert pause.milliseconds >= 20


def test_a_guest_that_was_paused_stays_paused(fake_qmp: Any, monitor: QmpMonitor) -> None:
    fake_qmp.running = False
    with PausedGuest(monitor) as pause:
        pass
    assert not fake_qmp.running
    assert not {"stop", "cont"} & set(fake_qmp.seen)
    assert (pause.was_running, pause.held, pause.milliseconds) == (False, True, 0)


def test_no_pause_touches_nothing(fake_qmp: Any) -> None:
    with NoPause(was_running=True) as pause:
        assert fake_qmp.running
    assert (pause.was_running, pause.held, pause.milliseconds) == (True, False, 0)


@pytest.mark.parametrize("error", [MemoryFault(0, "x"), ValueError(), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_lets_the_guest_go_and_goes_on(
    fake_qmp: Any, monitor: QmpMonitor, error: BaseException
) -> None:
    with pytest.raises(type(error)), PausedGuest(monitor):
        raise error
    assert fake_qmp.running


def test_handlers_are_put_back(monitor: QmpMonitor) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    with PausedGuest(monitor):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in numbers] == before


def test_handlers_of_the_program_are_left_alone(fake_qmp: Any, monitor: QmpMonitor) -> None:
    heard = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with PausedGuest(monitor):
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert fake_qmp.running


def test_another_thread_may_pause_too(fake_qmp: Any, monitor: QmpMonitor) -> None:
    states = []

    def work() -> None:
        with PausedGuest(monitor):
            states.append(fake_qmp.running)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert states == [False]
    assert fake_qmp.running


@pytest.mark.parametrize("when", ["query-status", "stop", "cont"])
def test_a_guest_that_dies_at_any_moment_has_vanished(fake_qmp: Any, monitor: QmpMonitor, when: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    fake_qmp.handlers[when] = lambda fake, _: fake.die()
    with pytest.raises(GuestVanished), PausedGuest(monitor):
        pass
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_guest_that_dies_in_the_middle_has_vanished(fake_qmp: Any, monitor: QmpMonitor) -> None:
    def read_a_dead_guest() -> None:
        fake_qmp.die()
        raise ValueError("whatever reading then raises")

    with pytest.raises(GuestVanished), PausedGuest(monitor):
        read_a_dead_guest()


def test_an_interrupt_is_not_hidden_by_a_dead_guest(fake_qmp: Any, monitor: QmpMonitor) -> None:
    def be_interrupted() -> None:
        fake_qmp.die()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), PausedGuest(monitor):
        be_interrupted()


def test_a_connection_that_is_lost_is_no_reason_to_leave_the_guest_stopped(
    fake_qmp: Any, monitor: QmpMonitor
) -> None:
    with PausedGuest(monitor):
        fake_qmp.hang_up()
    assert fake_qmp.running


def refuse(fake: Any, _: Any) -> None:
    raise fake.Refused("Resetting the Virtual Machine is required")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupt_says_that_the_guest_stays_stopped(
    fake_qmp: Any, monitor: QmpMonitor, error: BaseException
) -> None:
    fake_qmp.handlers["cont"] = refuse
    with pytest.raises(type(error)) as caught, PausedGuest(monitor):
        raise error
    (note,) = caught.value.__notes__
    assert "may still be stopped: QEMU refused cont: Resetting the Virtual Machine is required" in note
    assert str(fake_qmp.path) in note


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_that_the_guest_stays_stopped(
    fake_qmp: Any, monitor: QmpMonitor, number: signal.Signals
) -> None:
    fake_qmp.handlers["cont"] = refuse
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught, PausedGuest(monitor):
        signal.raise_signal(number)
    (note,) = caught.value.__notes__
    assert "may still be stopped: QEMU refused cont" in note


def test_a_guest_that_stays_stopped_without_an_interrupt_is_an_error(
    fake_qmp: Any, monitor: QmpMonitor
) -> None:
    fake_qmp.handlers["cont"] = refuse
    with pytest.raises(AttachError, match="refused cont"), PausedGuest(monitor):
        pass


PROGRAM = """
import sys, time
from kvmtools.attach.monitor.pause import PausedGuest
from kvmtools.attach.monitor.qmp import QmpMonitor
with QmpMonitor(sys.argv[1]) as monitor:
    with PausedGuest(monitor):
        print("paused", flush=True)
        time.sleep(60)
"""
STORM = """
import sys
from kvmtools.attach.monitor.pause import PausedGuest
from kvmtools.attach.monitor.qmp import QmpMonitor
with QmpMonitor(sys.argv[1]) as monitor:
    print("paused", flush=True)
    while True:
        with PausedGuest(monitor):
            pass
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, -signal.SIGINT),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGQUIT, 128 + signal.SIGQUIT),
    ],
)
def test_a_signal_lets_the_guest_go(fake_qmp: Any, number: signal.Signals, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(fake_qmp.path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"paused\n"
        assert not fake_qmp.running
        process.send_signal(number)
        assert process.wait(30) == status
    assert fake_qmp.running


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_strikes_where_exceptions_are_dropped_still_ends(
    fake_qmp: Any, monitor: QmpMonitor
) -> None:
    """asyncio keeps its tasks by weak references: their callbacks run in our thread."""

    class Kept:
        pass

    kept = [Kept()]
    reference = weakref.ref(kept[0], lambda _gone: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended, PausedGuest(monitor):
        kept.clear()
    assert reference() is None
    assert ended.value.code == 128 + signal.SIGTERM
    assert fake_qmp.running


@pytest.mark.parametrize("attempt", range(8))
def test_a_signal_at_any_byte_code_lets_the_guest_go(fake_qmp: Any, attempt: int) -> None:
    """The program pauses and resumes as fast as it can; the signal strikes wherever it happens to be."""
    with subprocess.Popen(
        [sys.executable, "-c", STORM, str(fake_qmp.path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"paused\n"
        time.sleep(0.02 + attempt * 0.00317)
        process.send_signal((signal.SIGTERM, signal.SIGINT)[attempt % 2])
        try:
            process.wait(30)
        finally:
            process.kill()
    assert "stop" in fake_qmp.seen
    assert fake_qmp.running

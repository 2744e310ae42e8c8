"""Processes that outlive us, against real ones; and signals that have to wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmtools.boot.host import detached
from kvmtools.boot.host.interrupts import ending_raises, held
from kvmtools.errors import AttachError


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[int, int]]:
    pid, started = detached.spawn_detached(["sleep", "60"], tmp_path / "log")
    yield pid, started
    detached.end(pid, started, patience=0)


def test_a_process_is_alive_until_it_ends(sleeper: tuple[int, int]) -> None:
    pid, started = sleeper
    assert detached.is_alive(pid, started)
    assert 0 <= detached.uptime_seconds(started) < 60
    assert not detached.wait_for_end(pid, started, 0.01)
    assert detached.send(pid, started, signal.SIGTERM)
    assert detached.wait_for_end(pid, started, 10)
    assert not detached.is_alive(pid, started)
    assert not detached.send(pid, started, signal.SIGTERM)


def test_another_start_time_is_another_process(sleeper: tuple[int, int]) -> None:
    pid, started = sleeper
    assert not detached.is_alive(pid, started + 1)
    assert not detached.send(pid, started + 1, signal.SIGKILL)
    assert detached.wait_for_end(pid, started + 1, 0)
    assert detached.is_alive(pid, started)


def test_a_name_with_blanks_and_brackets_is_no_trouble(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    pid, started = detached.spawn_detached([str(program), "60"], tmp_path / "log")
    assert detached.start_ticks(pid) == started
    detached.end(pid, started, patience=0)


def test_output_is_logged_and_the_dead_are_dead(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid, started = detached.spawn_detached(["sh", "-c", "echo out; echo err >&2"], log)
    assert detached.wait_for_end(pid, started, 10)
    assert log.read_text().split() == ["out", "err"]


def test_a_missing_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        detached.spawn_detached(["no-such-program-of-ours"], tmp_path / "log")


def test_sigkill_follows_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "log"
    program = "trap '' TERM; echo ready; while :; do sleep 60; done"
    pid, started = detached.spawn_detached(["sh", "-c", program], ready)
    while "ready" not in (ready.read_text() if ready.exists() else ""):
        assert detached.is_alive(pid, started)
    os.killpg(pid, 0)  # a group of its own: what the terminal sends does not reach it
    detached.end(pid, started, patience=0.1)
    assert not detached.is_alive(pid, started)


def test_what_hangs_in_the_hosts_kernel_is_said(
    sleeper: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hanging:
        hanging.setattr(detached, "send", lambda *_: True)
        hanging.setattr(detached, "_KILL_SECONDS", 0.01)
        with pytest.raises(AttachError, match=f"process {sleeper[0]} does not end, even of SIGKILL"):
            detached.end(*sleeper, patience=0.01)
    assert detached.is_alive(*sleeper)


def _interrupted_while_held(done: list[str]) -> None:
    with held():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the block")
    done.append("what comes after it")


def test_held_signals_arrive_at_the_end() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted_while_held(done)
    assert done == ["the rest of the block"]


def test_held_signals_arrive_though_the_block_fails() -> None:
    """Whoever asked us to end is not forgotten over a full disk; what failed is still to be seen."""

    def fail_while_interrupted() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            raise OSError("no space left on device")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail_while_interrupted()
    assert isinstance(caught.value.__context__, OSError)


def _interrupted_and_ended_while_held() -> None:
    with held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)


def test_every_held_signal_arrives() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            _interrupted_and_ended_while_held()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_process_that_cannot_be_identified_does_not_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def no_descriptor_left(pid: int) -> tuple[str, int]:
        pids.append(pid)
        raise OSError(24, os.strerror(24))

    with monkeypatch.context() as broken:
        broken.setattr(detached, "_state_and_start", no_descriptor_left)
        with pytest.raises(OSError, match="Too many open files"):
            detached.spawn_detached(["sleep", "60"], tmp_path / "log")
    assert detached.start_ticks(pids[0]) is None


def test_sigterm_becomes_an_exception_only_inside() -> None:
    with pytest.raises(SystemExit) as caught, ending_raises():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_program_that_handles_sigterm_keeps_its_handler() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with ending_raises():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_an_ignored_hangup_stays_ignored() -> None:
    program = (
        "import signal; from kvmtools.boot.host.interrupts import ending_raises, held\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with ending_raises(), held(): signal.raise_signal(signal.SIGHUP)\n"
        "signal.raise_signal(signal.SIGHUP)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0

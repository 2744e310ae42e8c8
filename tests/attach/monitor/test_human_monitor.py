"""The human monitor's own socket, told apart from QMP by its greeting."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_human_monitor import FakeHumanMonitor

from kvmtools.attach.monitor import human_monitor
from kvmtools.attach.monitor.connecting import open_monitor
from kvmtools.attach.monitor.human_monitor import HumanMonitor
from kvmtools.attach.monitor.pause import PausedGuest
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.errors import AttachError, GuestVanished


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeHumanMonitor]:
    with FakeHumanMonitor(tmp_path / "hmp") as fake:
        yield fake


@pytest.fixture
def monitor(fake: FakeHumanMonitor) -> Iterator[Any]:
    with open_monitor(f"unix:{fake.path},server=on") as monitor:
        yield monitor


def test_the_greeting_tells_which_it_is(fake_qmp: Any, monitor: Any) -> None:
    assert isinstance(monitor, HumanMonitor)
    with open_monitor(str(fake_qmp.path)) as other:
        assert isinstance(other, QmpMonitor)


def test_answers_come_without_echo_and_prompt(fake: FakeHumanMonitor, monitor: Any) -> None:
    fake.lines["info mtree -f"] = "FlatView #0\n AS (qemu) x\n" * 5000
    assert monitor.hmp("info mtree -f") == "FlatView #0\n AS (qemu) x\n" * 5000
    assert monitor.hmp("stop") == ""
    fake.lines["info odd"] = "no end of line"
    assert monitor.hmp("info odd") == "no end of line"
    assert monitor.hmp("info version") == "7.2.22Debian 1:7.2\n"
    assert monitor.version() == "7.2.22"
    assert fake.asked == ["info mtree -f", "stop", "info odd", "info version", "info version"]


def test_the_guest_is_held_and_let_go(fake: FakeHumanMonitor, monitor: Any) -> None:
    assert monitor.running()
    with PausedGuest(monitor) as pause:
        assert not fake.running
    assert pause.was_running
    assert fake.running
    fake.running = False
    with PausedGuest(monitor) as pause:
        pass
    assert not pause.was_running
    assert not fake.running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_an_answer(
    fake: FakeHumanMonitor, monitor: Any, number: signal.Signals
) -> None:
    def slow() -> str:
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        return "nothing\n"

    fake.lines["info roms"] = slow
    with pytest.raises((KeyboardInterrupt, SystemExit)), PausedGuest(monitor):
        monitor.hmp("info roms")
    assert fake.running
    assert monitor.hmp("info version").startswith("7.2.22")


def test_two_take_turns(fake: FakeHumanMonitor) -> None:
    for _ in range(2):
        with open_monitor(str(fake.path)) as monitor:
            assert monitor.running()
    with (
        open_monitor(str(fake.path)) as first,
        pytest.raises(AttachError, match=r"within 0.2 s .*one client at a time"),
    ):
        first.again(0.2)


@pytest.mark.parametrize("when", ["info status", "stop", "cont"])
def test_a_guest_that_dies_has_vanished(fake: FakeHumanMonitor, monitor: Any, when: str) -> None:
    fake.lines[when] = lambda: fake.die() or ""
    with pytest.raises(GuestVanished, match="ended or closed its monitor"), PausedGuest(monitor):
        pass
    monitor.close()
    with pytest.raises(AttachError, match="is closed"):
        monitor.hmp("info status")


def test_quit_is_no_vanishing(fake: FakeHumanMonitor, monitor: Any) -> None:
    fake.lines["quit"] = lambda: fake.die() or ""
    monitor.quit()


def test_a_greeting_without_a_prompt(tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as client:
            client.sendall(b"QEMU is what I say\r\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "other"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(GuestVanished):
            open_monitor(str(tmp_path / "other"))
        thread.join(10)


def test_a_file_is_lent_by_our_own_name_for_it(
    monitor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(type(monitor), "peer_pid", lambda _self: os.getppid())
    with pytest.raises(AttachError, match="is not called so"), monitor.lent(0):
        pass
    monkeypatch.setattr("kvmtools.attach.monitor.host_process.is_qemu", lambda _pid: True)
    with (tmp_path / "lent").open("w+b") as file, monitor.lent(file.fileno()) as path:
        Path(path).write_bytes(b"by QEMU")
        assert file.read() == b"by QEMU"
    monkeypatch.setattr("kvmtools.attach.monitor.host_process.same_namespace", lambda _pid: False)
    with pytest.raises(AttachError, match="another pid namespace"), monitor.lent(0):
        pass


def test_after_a_late_answer_nothing_is_asked_there(
    fake: FakeHumanMonitor, monitor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer carries a number: what comes next belongs to an earlier question."""
    monkeypatch.setattr(human_monitor, "_SECONDS", 0.2)
    fake.lines["info roms"] = lambda: time.sleep(0.4) or "roms\n"
    with pytest.raises(AttachError, match=r"within 0\.2 s"), PausedGuest(monitor):
        monitor.hmp("info roms")
    assert fake.running, "let run over another connection"
    with pytest.raises(AttachError, match=r"did not answer earlier \(attach again\)"):
        monitor.hmp("info version")
    assert fake.asked.count("info version") == 0

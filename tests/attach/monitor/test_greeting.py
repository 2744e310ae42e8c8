"""Silence is answered so that no guest is left standing; a crowd is waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kvmtools.attach.monitor import greeting
from kvmtools.attach.monitor.address import plain
from kvmtools.attach.monitor.greeting import greeted, monitor_at
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.errors import AttachError, UsageError


class FakeStub:
    """A gdbstub: its guest stops when a client connects, and goes on when that is told to detach.

    :param processes: an earlier client knew of several processes, and so must every later one
    """

    def __init__(self, path: Path, *, first: bytes, processes: bool) -> None:
        self.running = True
        self._first, self._processes = first, processes
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as client:
            self.running = False
            with suppress(ConnectionError):
                client.sendall(self._first)
            packet = client.recv(64)
            if self._processes and packet == b"$D#44":
                client.sendall(b"+$E22#a9")
                packet = client.recv(64)
            if packet == (b"$D;1#b0" if self._processes else b"$D#44"):
                self.running = True
                with suppress(ConnectionError):
                    client.sendall(b"+$OK#9a")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "PATIENCE", 0.1)


@pytest.fixture(
    params=[(b"", False), (b"$T02thread:01;#04", False), (b"$T02thread:01;#04", True)],
    ids=["silent", "telling of the stop", "after gdb"],
)
def stub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeStub]:
    first, processes = request.param
    stub = FakeStub(tmp_path / "gdb.sock", first=first, processes=processes)
    yield stub
    stub.thread.join(10)
    assert not stub.thread.is_alive()


def test_the_guest_behind_a_gdb_socket_runs_on(stub: FakeStub, tmp_path: Path) -> None:
    with pytest.raises(AttachError, match=r"looks like QEMU's GDB socket.*--gdb"):
        QmpMonitor(str(tmp_path / "gdb.sock"))
    stub.thread.join(10)
    assert stub.running


def test_an_interrupted_wait_lets_the_guest_run(
    stub: FakeStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("select.select", interrupt)
    with pytest.raises(KeyboardInterrupt):
        greeted(str(tmp_path / "gdb.sock"), 5.0)
    stub.thread.join(10)
    assert stub.running


def test_a_gdb_socket_is_no_qmp(stub: FakeStub, tmp_path: Path) -> None:
    assert not monitor_at(str(tmp_path / "gdb.sock"))


def test_a_busy_qmp_greets_when_its_turn_comes(fake_qmp: Any) -> None:
    first = QmpMonitor(str(fake_qmp.path))
    leaving = threading.Timer(0.4, first.close)
    leaving.start()
    with QmpMonitor(str(fake_qmp.path)) as second:
        assert second.command("query-status")["running"]
    leaving.join()
    assert fake_qmp.seen.count("qmp_capabilities") == 2


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ahead:
        listener.bind(str(path))
        listener.listen(0)
        ahead.connect(str(path))

        def serve() -> None:
            time.sleep(0.2)
            for _ in range(2):
                with listener.accept()[0] as client:
                    client.sendall(b'{"QMP": {}}')

        server = threading.Thread(target=serve)
        server.start()
        with greeted(str(path), 10.0) as connection:
            assert connection.recv(64) == b'{"QMP": {}}'
        server.join()


def test_a_queue_that_stays_full_is_a_busy_qmp(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ahead:
        listener.bind(str(path))
        listener.listen(0)
        ahead.connect(str(path))
        with pytest.raises(AttachError, match=r"no greeting of a monitor within 0\.2 s"):
            greeted(str(path), 0.2)


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    file = tmp_path / "bzImage"
    file.touch()
    with pytest.raises(AttachError, match="bzImage is not a socket"):
        QmpMonitor(f"unix:{file}")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/run/q", "/run/q"),
        ("unix:/run/q", "/run/q"),
        ("unix:q,server=on,wait=off", "q"),
        ("tcp:localhost:4444,server=on", "localhost:4444"),
        ("localhost:4444", "localhost:4444"),
        ("odd,name", "odd,name"),
    ],
)
def test_an_address_may_come_from_qemus_command_line(typed: str, meant: str) -> None:
    assert plain(typed) == meant


@pytest.mark.parametrize("typed", ["", "unix:"])
def test_an_empty_address_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="empty address"):
        plain(typed)

"""A gdbstub is enough to ask QEMU; whatever is asked, the guest's run state stays as it was."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
from fake_stub import FakeGdbstub

from kvmtools.attach.monitor import stub_monitor
from kvmtools.attach.monitor.listening import Listener
from kvmtools.attach.monitor.pause import PausedGuest
from kvmtools.attach.monitor.stub_monitor import StubMonitor
from kvmtools.errors import AttachError, GuestVanished, MemoryFault
from kvmtools.records import Registers

Serve = Callable[..., FakeGdbstub]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(FakeGdbstub(tmp_path / "gdb", **options))


@pytest.fixture(params=["7.2.22", "8.2.0", "10.0.2"])
def version(request: pytest.FixtureRequest) -> str:
    """Of QEMU: they tell of different stops."""
    return str(request.param)


def test_a_guest_that_ran_runs_whatever_is_asked(serve: Serve, version: str) -> None:
    stub = serve(version=version)
    stub.lines["info mtree -f"] = "FlatView #0\r\n" * 100
    with StubMonitor(str(stub.path)) as monitor:
        assert stub.running
        for _ in range(3):
            assert monitor.hmp("info mtree -f") == "FlatView #0\n" * 100
            assert stub.running
            assert (monitor.status(), monitor.running()) == ("running", True)
            assert stub.running
        assert monitor.read_physical(0x10, 5000) == stub.ram[0x10 : 0x10 + 5000]
        assert monitor.registers() == (Registers(1, 0xC0001000, 0x80050033, 0x1192000, 0x3506B0, 0x800),)
        assert stub.running
        assert not stub.physical, "the next gdb wants virtual addresses"
        with PausedGuest(monitor) as pause:
            assert not stub.running
            monitor.hmp("info mtree -f")
            assert not stub.running
        assert pause.was_running
        assert stub.running
    assert stub.running


@pytest.mark.parametrize("state", ["debug", "prelaunch", "guest-panicked"])
def test_a_guest_that_was_stopped_stays_so(serve: Serve, version: str, state: str) -> None:
    stub = serve(version=version, running=False)
    stub.state = state
    with StubMonitor(str(stub.path)) as monitor:
        assert monitor.status() == state
        with PausedGuest(monitor) as pause:
            pass
        assert not pause.was_running
        monitor.registers()
    assert (stub.running, stub.state, stub.resumed) == (False, state, 0)


def test_a_guest_that_was_paused_stays_so(serve: Serve) -> None:
    stub = serve(running=False)
    with StubMonitor(str(stub.path)) as monitor:
        assert monitor.status() == "paused"
    assert not stub.resumed


@pytest.mark.parametrize(("woken", "runs"), [(1, True), (0, False)])
def test_a_qemu_that_tells_of_no_stop_is_known_by_its_threads(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, woken: int, runs: bool
) -> None:
    counts = iter([{1: 70, 2: 1}, {1: 70 + woken, 2: 9}])
    monkeypatch.setattr(stub_monitor, "listener_at", lambda _address: Listener(4711))
    monkeypatch.setattr(stub_monitor, "switches", lambda _pid: next(counts))
    stub = serve(version="10.0.2", running=False)
    with StubMonitor(str(stub.path)) as monitor:
        assert monitor.running() is runs
    assert stub.running is runs


def test_without_any_sign_the_guest_runs_as_after_any_gdb(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub_monitor, "switches", lambda _pid: {})
    stub = serve(version="10.0.2")
    with StubMonitor(str(stub.path)):
        assert stub.running


@pytest.mark.parametrize("runs", [True, False])
def test_what_a_monitor_knows_is_believed(serve: Serve, runs: bool) -> None:
    stub = serve(version="10.0.2", running=runs)
    with StubMonitor(str(stub.path), runs=runs) as monitor:
        assert monitor.running() is runs
    assert stub.running is runs


@pytest.mark.parametrize("runs", [True, False])
def test_what_a_monitor_knows_is_not_believed_of_another_guest(
    serve: Serve, version: str, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([{1: 70}, {1: 70 + runs}])
    monkeypatch.setattr(stub_monitor, "listener_at", lambda _address: Listener(4711))
    monkeypatch.setattr(stub_monitor, "switches", lambda _pid: next(counts))
    stub = serve(version=version, running=runs)
    with pytest.raises(AttachError, match="is the GDB socket of another guest"):
        StubMonitor(str(stub.path), runs=not runs, threads={0: 2})
    assert stub.running is runs
    assert runs or not stub.resumed


def test_a_guest_that_stops_by_itself_meanwhile_stays_so(serve: Serve, version: str) -> None:
    stub = serve(version=version)
    with StubMonitor(str(stub.path)) as monitor:
        stub.breakpoint_hit()
        assert monitor.status() == "debug"
        monitor.registers()
    assert stub.state == "debug"


def test_a_guest_that_somebody_else_let_run_after_its_breakpoint(serve: Serve, version: str) -> None:
    stub = serve(version=version)
    with StubMonitor(str(stub.path)) as monitor:
        stub.breakpoint_hit()
        stub._set(True)
        assert monitor.running()
    assert stub.running


def test_what_the_stub_refuses(serve: Serve) -> None:
    stub = serve()
    stub.lines["cont"] = "Error: Resetting the Virtual Machine is required\r\n"
    stub.ram = stub.ram[:100]
    with pytest.raises(AttachError, match="QEMU refused cont: Resetting the Virtual Machine is required"):
        StubMonitor(str(stub.path))
    stub.lines["cont"] = lambda: stub._set(True) or ""
    stub._set(True)
    while stub_monitor.listener_at(str(stub.path)).taken:
        time.sleep(0.01)
    with StubMonitor(str(stub.path)) as monitor:
        with pytest.raises(MemoryFault, match="the gdbstub answers"):
            monitor.read_physical(0, 4096)
        assert not stub.physical
        assert stub.running
    with pytest.raises(AttachError, match="connection is closed"):
        monitor.hmp("info version")
    monitor.close()


def test_a_stub_of_no_qemu(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """gdbserver answers ``monitor`` commands in its own words."""
    stub = serve()
    stub.lines = {"info status": "Unknown monitor command.\n"}
    with pytest.raises(AttachError, match="QEMU answers 'info status' with: Unknown monitor command"):
        StubMonitor(str(stub.path))
    assert stub.running, "it was told to go on"
    monkeypatch.setattr(FakeGdbstub, "_monitor", lambda self, _line: self._send(b""))
    with pytest.raises(AttachError, match=r"carries no monitor commands \(is it a QEMU's\?\)"):
        StubMonitor(str(stub.path))
    assert stub.running


@pytest.mark.parametrize("when", ["connecting", "asking"])
def test_a_qemu_that_vanishes(serve: Serve, when: str) -> None:
    stub = serve()
    if when == "connecting":
        stub.lines["info version"] = lambda: stub.die() or ""
        with pytest.raises(GuestVanished, match="QEMU ended or closed its gdbstub"):
            StubMonitor(str(stub.path))
        return
    with StubMonitor(str(stub.path)) as monitor:
        stub.die()
        with pytest.raises(GuestVanished, match="is gone"):
            monitor.hmp("info version")
        with pytest.raises(GuestVanished), PausedGuest(monitor):
            pass


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b'{"QMP": {}}\r\n', r"is a monitor's socket, not QEMU's GDB socket \(give it with --qemu\)"),
        (b"QEMU 7.2.22 monitor - type 'help'\r\n(qemu) ", "is a monitor's socket"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer as a GDB socket"),
        (b"+$OK#9a", "does not answer as a GDB socket"),
        (b"", "does not answer as a GDB socket.*one client at a time"),
    ],
)
def test_another_program(tmp_path: Path, said: bytes, why: str) -> None:
    heard = []

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as client:
            client.sendall(said)
            while data := client.recv(256):
                heard.append(data)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "other"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(AttachError, match=why):
            StubMonitor(str(tmp_path / "other"), seconds=0.2)
        thread.join(10)
    # A busy gdbstub would read it when its turn comes, and stop the guest for nobody.
    assert b"$D#44" in b"".join(heard)


def test_nobody(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match=r"there is no socket .*none \(start QEMU with -gdb unix:PATH"):
        StubMonitor(str(tmp_path / "none"))
    with pytest.raises(AttachError, match=r"nobody listens on localhost:1 \(start QEMU with -s"):
        StubMonitor("localhost:1")


def test_a_stub_that_serves_somebody_is_not_disturbed(serve: Serve) -> None:
    stub = serve()
    with StubMonitor(str(stub.path)):
        before = time.monotonic()
        with pytest.raises(AttachError, match=r"another client is connected to .*gdb \(.*ask inside it\)"):
            StubMonitor(str(stub.path))
        assert time.monotonic() - before < 2
        assert stub.clients == 1


def test_an_interrupt_leaves_no_conversation_in_its_middle(serve: Serve) -> None:
    stub = serve()
    with StubMonitor(str(stub.path)) as monitor:

        def interrupt(*_: Any) -> Any:
            raise KeyboardInterrupt

        stub.lines["info roms"] = lambda: time.sleep(0.2) or "nothing\r\n"
        monitor._talk.do, kept = interrupt, monitor._talk.do  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            monitor.hmp("info roms")
        monitor._talk.do = kept  # type: ignore[method-assign]
        assert monitor.running()
    assert stub.running


@pytest.mark.parametrize("held", [True, False])
def test_after_a_late_answer_nothing_is_asked_there(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """No answer carries a number: what comes next belongs to an earlier question."""
    stub = serve()
    monitor = StubMonitor(str(stub.path))
    monkeypatch.setattr(stub_monitor, "_SECONDS", 0.2)
    stub.lines["info roms"] = lambda: time.sleep(0.4) or "roms\r\n"
    with (
        pytest.raises(AttachError, match=r"within 0\.2 s"),
        PausedGuest(monitor) if held else nullcontext(),
    ):
        monitor.hmp("info roms")
    with pytest.raises(AttachError, match=r"did not answer earlier \(attach again\)"):
        monitor.hmp("info version")
    time.sleep(0.5)
    assert stub.running
    monitor.close()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_waits_for_the_guest_to_run(serve: Serve, second: signal.Signals) -> None:
    stub = serve()

    def interrupted() -> str:
        for number in (signal.SIGINT, second):
            os.kill(os.getpid(), number)
            time.sleep(0.2)
        return "roms\r\n"

    stub.lines["info roms"] = interrupted
    before = signal.getsignal(second)
    with (
        pytest.raises(KeyboardInterrupt if second == signal.SIGINT else SystemExit),
        StubMonitor(str(stub.path)) as monitor,
    ):
        monitor.hmp("info roms")
    assert stub.running
    assert signal.getsignal(second) == before


def test_a_long_read_is_many_questions(serve: Serve) -> None:
    stub = serve()
    with StubMonitor(str(stub.path)) as monitor:
        assert monitor.read_physical(0x800, 0x280000) == (stub.ram * 161)[0x800:0x280800]
    assert stub.resumed == 1 + 3

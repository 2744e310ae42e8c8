"""A QEMU that somebody started by hand, as docs/guests.md types it: an i386 kernel in qemu-system-x86_64."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import documented
import pytest
from console_blocks import Typed

import kvmtools
from kvmtools.attach.monitor.connecting import open_monitor
from kvmtools.attach.monitor.stub_monitor import StubMonitor
from kvmtools.attach.open import open_target
from kvmtools.boot.kernels import reference

READY = "kvmtools: ready"
GDB, QMP, HUMAN = "A gdbstub: -s or -gdb", "A QMP socket: -qmp", "The human monitor: -monitor"
PORTS = (":1234", "localhost:4444")
"""Of the page; others may have them."""
Type = Callable[[Typed], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    kernel = reference.ensure("pae", progress=print)
    for name, path in (("bzImage", kernel.bzimage), ("initrd", kernel.initrd), ("vmlinux", kernel.vmlinux)):
        (folder / name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


@pytest.fixture(scope="module")
def typed(folder: Path, ports: list[int]) -> Iterator[Type]:
    """Types a line of the page, with ports of our own, beside the QEMU that its first line starts."""

    def own(text: str) -> str:
        for name, port in zip(PORTS, ports, strict=True):
            text = text.replace(name, f"{name.partition(':')[0]}:{port}")
        return text

    def run(line: Typed) -> subprocess.CompletedProcess[str]:
        return documented.run(replace(line, command=own(line.command), shown=own(line.shown)), folder)

    start = documented.sections()[GDB][0]
    run(replace(start, command=start.command.replace(" -s ", f" -gdb tcp:localhost:{ports[0]} ")))
    pid = int((folder / "pid").read_text())
    try:
        deadline = time.monotonic() + 120
        while READY not in (console := folder / "console").read_text(errors="replace"):
            assert time.monotonic() < deadline, console.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        yield run
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def runs_as_before(typed: Type, folder: Path) -> Iterator[None]:
    yield
    with open_monitor(str(folder / "monitor.sock")) as monitor:
        assert monitor.running()
        assert [each.label for each in monitor.chardevs()].count("gdb") == 1


@pytest.mark.parametrize("title", [GDB, QMP, HUMAN])
def test_the_lines_of_the_page(typed: Type, title: str) -> None:
    lines = [line for line in documented.sections()[title] if line.command.startswith("kvmtools")]
    assert len(lines) == (1 if title == HUMAN else 2)
    for line in lines:
        typed(line)


@pytest.mark.parametrize("command", ["vtop 0xc1000000", "zones", "snapshot recorded"])
def test_other_commands_through_the_human_monitor(typed: Type, folder: Path, command: str) -> None:
    done = documented.run(f"kvmtools {command} --qemu monitor.sock -s vmlinux", folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_drgn_on_it(typed: Type, folder: Path, ports: list[int]) -> None:
    """Which takes it for x86_64, if it is not told."""
    code = 'print(prog["init_task"].comm.string_().decode(), prog.platform.arch.name)'
    line = f"drgn --architecture i386 --qemu localhost:{ports[1]} -s vmlinux -e '{code}'"
    done = documented.run(line, folder)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "swapper/0 I386\n")


def test_the_process_is_found_through_tcp(typed: Type, folder: Path, ports: list[int]) -> None:
    pid = int((folder / "pid").read_text())
    for name in (f":{ports[0]}", f"127.0.0.1:{ports[0]}"):
        with open_target(gdb=name) as target:
            assert target.monitor is not None
            assert target.monitor.peer_pid() == pid
            assert target.monitor.target_arch() == "x86_64"
            assert target.transport.startswith("proc-mem (proved against xp")


def test_a_gdb_that_holds_the_stub_is_not_disturbed(typed: Type, folder: Path, ports: list[int]) -> None:
    with StubMonitor(f":{ports[0]}") as theirs:
        done = documented.run(f"kvmtools regs --gdb :{ports[0]} -s vmlinux", folder)
        assert done.returncode == 3
        assert "another client is connected to" in done.stderr
        done = documented.run(f"kvmtools regs --qemu localhost:{ports[1]} -s vmlinux", folder)
        assert done.returncode == 0
        assert "read by QMP alone: another client is connected to" in done.stdout
        assert theirs.running()


def test_another_kernel_s_vmlinux(typed: Type, folder: Path, ports: list[int]) -> None:
    (folder / "other").symlink_to(reference.ensure("nopae", progress=print).vmlinux)
    for address in (f"--gdb :{ports[0]}", "--qemu monitor.sock"):
        done = documented.run(f"kvmtools check {address} -s other", folder)
        assert done.returncode == 3
        assert done.stderr.startswith("kvmtools: this vmlinux is not the guest's kernel: its build id is")


@pytest.fixture
def closed(typed: Type, folder: Path, ports: list[int]) -> Iterator[str]:
    """The monitor's address, while QEMU serves no gdb."""
    address = str(folder / "monitor.sock")
    with open_monitor(address) as monitor:
        assert "Disabled gdbserver" in monitor.hmp("gdbserver none")
    yield address
    with open_monitor(address) as monitor:
        assert not any(each.label == "gdb" for each in monitor.chardevs()), "it was closed again"
        assert monitor.running()
        monitor.hmp(f"gdbserver tcp:localhost:{ports[0]},server=on,wait=off")


def test_where_there_is_no_gdbstub_one_is_opened(closed: str, folder: Path, ports: list[int]) -> None:
    for address, name in ((closed, "the human monitor"), (f"localhost:{ports[1]}", "QMP")):
        done = documented.run(f"kvmtools regs --qemu {address} -s vmlinux", folder)
        assert done.returncode == 0
        assert f"read by GDB, and {name} agrees" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_closes_what_was_opened(
    closed: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    opened = []

    def interrupted(stub: StubMonitor) -> None:
        opened.append(stub.address)
        signal.raise_signal(number)

    monkeypatch.setattr(StubMonitor, "registers", interrupted)
    with open_target(qemu=closed) as target, pytest.raises((KeyboardInterrupt, SystemExit)):
        target.registers_by_gdb()
    (path,) = opened
    assert not Path(path).parent.exists()


def test_a_guest_at_a_breakpoint_stays_there(typed: Type, folder: Path, ports: list[int]) -> None:
    """The user's gdb left it there; what it is asked meanwhile changes nothing."""
    with kvmtools.open(gdb=f":{ports[0]}", symbols=folder / "vmlinux") as kernel:
        place = kernel.address("schedule")
    script = [
        "set architecture i386:x86-64",
        f"target remote :{ports[0]}",
        f"hbreak *{place:#x}",
        "continue",
        "disconnect",
    ]
    gdb = ["gdb", "-nx", "-batch", "vmlinux", *(word for line in script for word in ("-ex", line))]
    done = subprocess.run(gdb, cwd=folder, capture_output=True, text=True, timeout=60)
    assert "Breakpoint 1, " in done.stdout
    monitor_socket = str(folder / "monitor.sock")
    with open_monitor(monitor_socket) as monitor:
        assert monitor.status() == "debug"
        try:
            done = documented.run(f"kvmtools check --gdb :{ports[0]} -s vmlinux", folder)
            assert "the guest was paused before, and stays so" in done.stdout, done.stderr
            assert "✓ agrees with the model" in done.stdout
            assert monitor.status() == "debug"
            done = documented.run(f"kvmtools regs --qemu localhost:{ports[1]} -s vmlinux", folder)
            assert "read by GDB, and QMP agrees" in done.stdout
            assert monitor.status() == "debug"
        finally:
            monitor.cont()

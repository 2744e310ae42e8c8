"""A gdbstub that is opened for the length of a question, and the one that is there already."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fake_human_monitor import FakeHumanMonitor
from fake_stub import FakeGdbstub

from kvmtools.attach.live_target import LiveTarget
from kvmtools.attach.monitor.borrowed_stub import borrowed_stub
from kvmtools.attach.monitor.connecting import open_monitor
from kvmtools.errors import AttachError, GuestVanished

OPENED = "Waiting for gdb connection on device 'unix:x'\n"
SERVED = "#chr1: filename=gdb\ngdb: filename={}\n"


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[FakeHumanMonitor]:
    with FakeHumanMonitor(tmp_path / "hmp") as qemu:
        qemu.lines |= {"info chardev": "serial0: filename=vc\n", "gdbserver none": "Disabled gdbserver\n"}
        yield qemu


class AnyLine(dict[str, Any]):
    """Answers ``gdbserver unix:...``, wherever that is."""

    def get(self, line: str, default: Any = None) -> Any:
        return super().get(re.sub(r"unix:\S+", "unix:PATH", line), default)


def opens(qemu: FakeHumanMonitor, answer: str = OPENED) -> None:
    qemu.lines = AnyLine({**qemu.lines, "gdbserver unix:PATH": answer})


def test_one_is_opened_and_closed_again(qemu: FakeHumanMonitor) -> None:
    opens(qemu)
    with open_monitor(str(qemu.path)) as monitor, borrowed_stub(monitor) as address:
        assert os.stat(os.path.dirname(address)).st_mode & 0o77 == 0
        assert qemu.asked[-1] == f"gdbserver unix:{address},server=on,wait=off"
    assert qemu.asked[-1] == "gdbserver none"
    assert not os.path.exists(os.path.dirname(address))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), AttachError("no")])
def test_it_is_closed_whatever_happens(qemu: FakeHumanMonitor, error: BaseException) -> None:
    opens(qemu)
    with open_monitor(str(qemu.path)) as monitor, pytest.raises(type(error)), borrowed_stub(monitor):
        raise error
    assert qemu.asked[-1] == "gdbserver none"


def test_one_that_is_there_stays(qemu: FakeHumanMonitor, tmp_path: Path) -> None:
    qemu.lines["info chardev"] = SERVED.format(f"disconnected:unix:{tmp_path / 'gdb'},server=on")
    with (
        FakeGdbstub(tmp_path / "gdb"),
        open_monitor(str(qemu.path)) as monitor,
        borrowed_stub(monitor) as address,
    ):
        assert address == str(tmp_path / "gdb")
    assert not any(line.startswith("gdbserver") for line in qemu.asked)


@pytest.mark.parametrize(
    ("filename", "why"),
    [
        ("unix:/run/gdb,server=on", "another client is connected to /run/gdb"),
        ("disconnected:unix:/no/gdb,server=on", "there is no socket /no/gdb"),
    ],
)
def test_one_that_is_not_for_us(qemu: FakeHumanMonitor, filename: str, why: str) -> None:
    qemu.lines["info chardev"] = SERVED.format(filename)
    with (
        open_monitor(str(qemu.path)) as monitor,
        pytest.raises(AttachError, match=why),
        borrowed_stub(monitor),
    ):
        pass
    assert not any(line.startswith("gdbserver") for line in qemu.asked)


LEFT = "#chr037: filename=gdb\nserial0: filename=vc\ncompat_monitor0: filename=unix:a.hmp,server=on\n"


@pytest.mark.parametrize("prefix", ["", "disconnected:"])
def test_a_stub_at_a_device_of_the_users_is_left_alone(qemu: FakeHumanMonitor, prefix: str) -> None:
    """``-gdb chardev:mygdb``: QEMU's ``gdbserver`` would end it, with the session of whoever is there."""
    qemu.lines["info chardev"] = LEFT + f"mygdb: filename={prefix}unix:/run/mine,server=on\n"
    opens(qemu)
    with (
        open_monitor(str(qemu.path)) as monitor,
        pytest.raises(AttachError, match=r"character device mygdb \(give its address with --gdb\)"),
        borrowed_stub(monitor),
    ):
        pass
    assert not any(line.startswith("gdbserver") for line in qemu.asked)


def test_what_is_left_of_a_stub_of_ours_does_not_hinder_another(qemu: FakeHumanMonitor) -> None:
    qemu.lines["info chardev"] = LEFT + f"mon: filename=unix:{qemu.path},server=on\n"
    opens(qemu)
    with open_monitor(str(qemu.path)) as monitor, borrowed_stub(monitor) as address:
        assert qemu.asked[-1] == f"gdbserver unix:{address},server=on,wait=off"


@pytest.mark.parametrize(("option", "tried"), [("-mon", True), ("-gdb", False)])
def test_what_another_device_is_for_is_on_the_command_line(
    qemu: FakeHumanMonitor, monkeypatch: pytest.MonkeyPatch, option: str, tried: bool
) -> None:
    qemu.lines["info chardev"] = LEFT + "mine: filename=disconnected:unix:/run/mine,server=on\n"
    opens(qemu)
    value = "mode=control,chardev=mine" if tried else "chardev:mine"
    words = [sys.executable, "-c", "input()", option, value]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        open_monitor(str(qemu.path)) as monitor,
        nullcontext() if tried else pytest.raises(AttachError, match="character device mine"),
    ):
        monkeypatch.setattr(type(monitor), "peer_pid", lambda _self: process.pid)
        with borrowed_stub(monitor) as address:
            assert address in qemu.asked[-1]


def test_a_qemu_that_opens_none(qemu: FakeHumanMonitor) -> None:
    opens(qemu, "Could not open gdbserver on device 'unix:x'\n")
    with (
        open_monitor(str(qemu.path)) as monitor,
        pytest.raises(AttachError, match="QEMU opens no gdbstub for us: Could not open gdbserver"),
        borrowed_stub(monitor),
    ):
        pass


def test_a_qemu_that_does_not_close_it(qemu: FakeHumanMonitor) -> None:
    opens(qemu)
    qemu.lines["gdbserver none"] = "unknown command\n"
    with (
        open_monitor(str(qemu.path)) as monitor,
        pytest.raises(AttachError, match=r"did not close its gdbstub: unknown command \(`gdbserver none` at"),
        borrowed_stub(monitor),
    ):
        pass


def test_a_qemu_that_vanishes_meanwhile(qemu: FakeHumanMonitor) -> None:
    opens(qemu)
    with (
        open_monitor(str(qemu.path)) as monitor,
        pytest.raises(GuestVanished),
        borrowed_stub(monitor) as address,
    ):
        qemu.die()
    assert not os.path.exists(os.path.dirname(address))


def test_the_stub_of_another_qemu_is_told_from_this_one_s(
    qemu: FakeHumanMonitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What QEMU calls localhost may be another host than ours."""
    qemu.lines["info chardev"] = SERVED.format(f"disconnected:unix:{tmp_path / 'gdb'},server=on")
    monkeypatch.setattr(LiveTarget, "__init__", lambda self, **parts: self.__dict__.update(parts))
    with FakeGdbstub(tmp_path / "gdb") as stub, open_monitor(str(qemu.path)) as monitor:
        target = LiveTarget(monitor=monitor, _gdb_address=None)
        assert len(target.registers_by_gdb()) == 1
        stub.lines["info cpus"] = "* CPU #0: thread_id=2\n"
        with pytest.raises(AttachError, match="is the GDB socket of another guest"):
            target.registers_by_gdb()
        assert stub.running

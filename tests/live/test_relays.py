"""A program between us and QEMU's monitor, as virt-qemu-qmp-proxy is: the right process is found, or none is read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from bare_qemu import FOUR_GIB, Machine, scatter

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.attach.open import open_target
from kvmtools.records import PAGE_SIZE

RELAY = """
import os, re, select, socket, sys
listens, qmp, thread = sys.argv[1:]
server = socket.socket(socket.AF_UNIX); server.bind(listens + "-"); server.listen(); os.rename(listens + "-", listens)
while True:
    ours, theirs = server.accept()[0], socket.socket(socket.AF_UNIX)
    theirs.connect(qmp)
    while True:
        ready = select.select([ours, theirs], [], [])[0]
        data = ready[0].recv(1 << 20)
        if not data:
            break
        if thread and ready[0] is theirs:
            data = re.sub(rb'"thread-id": \\d+', b'"thread-id": ' + thread.encode(), data)
        (theirs if ready[0] is ours else ours).sendall(data)
    ours.close(), theirs.close()
"""
"""Brings lines there and back, for one client after the other; the thread that QEMU names it calls as it is told to."""

NOBODY = 1 << 22
"""One more than the highest number of a thread (``PID_MAX_LIMIT``)."""


class Relayed(Protocol):
    def __call__(self, *, thread: int | None = None) -> str: ...


@pytest.fixture
def relayed(split: Machine, tmp_path: Path) -> Iterator[Relayed]:
    """Starts one in front of the machine ``split``; its address."""
    with ExitStack() as stack:

        def start(*, thread: int | None = None) -> str:
            path = tmp_path / "relay"
            words = [sys.executable, "-c", RELAY, str(path), split.qmp, str(thread or "")]
            stack.callback(stack.enter_context(subprocess.Popen(words)).kill)
            while not path.exists():
                time.sleep(0.01)
            return str(path)

        yield start


def test_qemu_is_found_behind_it(split: Machine, relayed: Relayed) -> None:
    split.ram.unlink()  # else the file that QEMU names is mapped
    address = relayed()
    with QmpMonitor(address) as monitor:
        assert monitor.peer_pid() == split.process.pid
    with open_target(qemu=address) as target:
        assert target.transport.startswith("proc-mem (proved against xp: 8 pages, 4 above 4 GiB")
        assert "not used" not in target.transport


@pytest.mark.parametrize(
    ("name", "refusal"),
    [("sleep", "not by QEMU"), ("qemu-of-others", "not used: reading QEMU (pid {pid}) at 0x")],
)
def test_another_s_process_is_not_taken_for_it(
    split: Machine, relayed: Relayed, tmp_path: Path, name: str, refusal: str
) -> None:
    """QEMU is on another host, where the thread of its number is QEMU's, and here it is somebody else's."""
    places = scatter(split)
    split.ram.unlink()
    program = tmp_path / name
    program.symlink_to(shutil.which("sleep") or "")
    with subprocess.Popen([program, "1000"]) as other:
        try:
            while Path(f"/proc/{other.pid}/comm").read_text().strip() != name:
                time.sleep(0.01)  # it has its new name a moment after it runs
            with open_target(qemu=relayed(thread=other.pid)) as target:
                assert target.memory.name == "xp"
                assert refusal.format(pid=other.pid) in target.transport
                address = next(place for place in places if place >= FOUR_GIB)
                assert target.memory.read(address, PAGE_SIZE) == places[address]
        finally:
            other.kill()


def test_without_its_process_the_monitor_is_read(split: Machine, relayed: Relayed) -> None:
    split.ram.unlink()
    with open_target(qemu=relayed(thread=NOBODY)) as target:
        assert target.memory.name == "xp"
        assert "not used: the socket was made by python" in target.transport
        assert "not by QEMU, whose process is not to be seen from here" in target.transport

"""A QEMU that only runs its firmware: RAM, registers and a run state need no kernel.

A machine whose PCI hole begins at 64 MiB has RAM above 4 GiB without needing 4 GiB, and its dump is small.  The
fixtures ``start`` and ``split`` (tests/live/conftest.py) make such machines.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.records import PAGE_SIZE

FOUR_GIB = 1 << 32
MIB = 1 << 20
RAM = Path(f"/dev/shm/kvmtools-test-bare-{os.getpid()}")
"""The file behind the memory of a machine that shares it."""


@dataclass
class Machine:
    """A QEMU started by hand, outside kvmtools."""

    process: subprocess.Popen[bytes]
    qmp: str
    gdb: str
    ram: Path

    def running(self) -> bool:
        with QmpMonitor(self.qmp) as monitor:
            return bool(monitor.command("query-status")["running"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Machine]


def shared(size: int, path: Path) -> list[str]:
    return ["-m", f"{size}M", "-object", f"memory-backend-file,id=ram,size={size}M,mem-path={path},share=on"]


def scatter(machine: Machine, *, pages: int = 50) -> dict[int, bytes]:
    """Write random bytes to the RAM file on both sides of 4 GiB; guest-physical address to what is there now."""
    chooser = random.Random(1)
    places = {}
    with machine.ram.open("r+b") as file:
        for base, offset in ((0, 0), (FOUR_GIB, 64 * MIB)):
            for page in chooser.sample(range(8 * MIB, 64 * MIB, PAGE_SIZE), pages):
                data = chooser.randbytes(PAGE_SIZE)
                os.pwrite(file.fileno(), data, offset + page)
                places[base + page] = data
    return places

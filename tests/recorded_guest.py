"""A recorded guest (``fixtures/guests``) whose memory can be broken and looked at again."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from gdb_facts import GdbFacts

from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.attach.recording import Recording
from kvmtools.compare.case import Case
from kvmtools.compare.engine import check
from kvmtools.findings import Result
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import Observed, observe
from kvmtools.observe.recorded import recorded_kernel
from kvmtools.records import Registers

GUESTS = Path(__file__).resolve().parents[1] / "fixtures" / "guests"


class RecordedGuest:
    """A guest at one moment, whose memory can be overwritten and looked at again."""

    def __init__(self, kernel: Kernel, registers: tuple[Registers, ...], gdb: GdbFacts) -> None:
        assert isinstance(kernel.memory, Snapshot)
        self.kernel, self.registers, self.gdb = kernel, registers, gdb
        self.snapshot, self.vmlinux = kernel.memory, kernel.vmlinux
        self.healthy = Case(self.observe())

    def observe(self) -> Observed:
        """Decode the memory as it is now."""
        return observe(self.kernel, self.snapshot, self.registers)

    def check(self, only: tuple[str, ...] = ()) -> Result:
        """Judge the memory as it is now."""
        return check(self.observe(), only=only)

    def read(self, virtual: int, size: int = 4) -> int:
        """An integer at a linear-map address."""
        return self.kernel.integer(virtual, size)

    def write(self, virtual: int, value: int, size: int = 4) -> None:
        """Overwrite an integer at a linear-map address."""
        self.write_physical(self.kernel.physical(virtual), value, size)

    def write_physical(self, physical: int, value: int, size: int = 4) -> None:
        """Overwrite an integer at a physical address."""
        self.snapshot.patch(physical, (value % (1 << 8 * size)).to_bytes(size, "little"))


@cache
def _core(name: str) -> ElfCore:
    return ElfCore(GUESTS / f"{name}.vmcore.zst")


def recording(name: str) -> tuple[Snapshot, Recording]:
    """The memory of ``pae``, ``nopae`` or ``numa``, to be overwritten at will, and what was recorded beside it."""
    core = _core(name)
    snapshot = Snapshot(core)
    for stretch in core.captured:
        snapshot.keep(stretch.start, len(stretch))
    snapshot.seal()
    assert core.recording is not None
    return snapshot, core.recording


def load(name: str) -> RecordedGuest:
    """The guest ``pae``, ``nopae`` or ``numa``."""
    snapshot, told = recording(name)
    gdb = GdbFacts(json.loads((GUESTS / f"{name}.gdb.json").read_text()))
    return RecordedGuest(recorded_kernel(snapshot, told), told.registers, gdb)


def exchanged(observed: Observed, **parts: object) -> Observed:
    """The same observation with other parts in it."""
    other = Observed(observed.kernel, observed.registers)
    vars(other).update({**vars(observed), **parts})
    return other

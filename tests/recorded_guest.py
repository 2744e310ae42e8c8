"""A recorded guest (``fixtures/guests``) whose memory can be broken and looked at again."""

from __future__ import annotations

import json
from pathlib import Path

from gdb_facts import GdbFacts

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.compare.case import Case
from kvmtools.compare.engine import check
from kvmtools.findings import Result
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import Observed, observe
from kvmtools.observe.symbols.vmlinux import Vmlinux
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


def load(name: str) -> RecordedGuest:
    """The guest ``pae``, ``nopae`` or ``numa``."""
    document = json.loads((GUESTS / f"{name}.json").read_text())
    vmlinux = Vmlinux.from_json(document["facts"])
    kernel = Kernel(
        vmlinux=vmlinux,
        slide=document["slide"],
        memory=Snapshot.load(GUESTS / f"{name}.snapshot"),
        page_offset=vmlinux.page_offset,
        lowmem_end=document["lowmem_end"],
    )
    registers = tuple(Registers(**each) for each in document["registers"])
    return RecordedGuest(kernel, registers, GdbFacts(document["gdb"]))


def exchanged(observed: Observed, **parts: object) -> Observed:
    """The same observation with other parts in it."""
    other = Observed(observed.kernel, observed.registers)
    vars(other).update({**vars(observed), **parts})
    return other

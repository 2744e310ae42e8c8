"""A recorded guest (``fixtures/guests``) whose memory can be broken and looked at again."""

from __future__ import annotations

import json
from pathlib import Path

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.compare import Case, Result, check
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import Observed, observe
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Registers

GUESTS = Path(__file__).resolve().parents[1] / "fixtures" / "guests"


class RecordedGuest:
    """A guest at one moment, whose memory can be overwritten and looked at again."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.with_suffix(".json").read_text())
        self.snapshot = Snapshot.load(path.with_suffix(".snapshot"))
        self.vmlinux = Vmlinux.from_json(document["facts"])
        self.kernel = Kernel(
            vmlinux=self.vmlinux,
            slide=document["slide"],
            memory=self.snapshot,
            page_offset=self.vmlinux.page_offset,
            lowmem_end=document["lowmem_end"],
        )
        self.registers = tuple(Registers(**each) for each in document["registers"])
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
    """The guest ``pae`` or ``nopae``."""
    return RecordedGuest(GUESTS / name)


def exchanged(observed: Observed, **parts: object) -> Observed:
    """The same observation with other parts in it."""
    other = Observed(observed.kernel, observed.registers)
    vars(other).update({**vars(observed), **parts})
    return other

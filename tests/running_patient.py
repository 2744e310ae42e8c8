"""A running guest to break things in: it stands still meanwhile, and is written to through gdb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gdb_facts import GdbFacts

from kvmtools.attach.monitor.gdb import Gdb
from kvmtools.compare.case import Case


@dataclass
class RunningPatient:
    """Remembers what was there."""

    healthy: Case
    gdb: GdbFacts
    stub: Gdb | None = None
    before: list[tuple[int, bytes]] = field(default_factory=list)

    @contextmanager
    def through(self, stub: Gdb) -> Iterator[None]:
        """Use this gdb, and close it."""
        with stub:
            self.stub = stub
            yield
        self.stub = None

    def read(self, virtual: int, size: int = 4) -> int:
        return int.from_bytes(self._read(virtual, size), "little")

    def write(self, virtual: int, value: int, size: int = 4) -> None:
        assert self.stub is not None
        self.before.append((virtual, self._read(virtual, size)))
        self.stub.write(virtual, (value % (1 << 8 * size)).to_bytes(size, "little"))

    def restore(self) -> None:
        """Undo every write, the last one first."""
        assert self.stub is not None
        while self.before:
            self.stub.write(*self.before.pop())

    def _read(self, virtual: int, size: int) -> bytes:
        assert self.stub is not None
        return self.stub.read(virtual, size)

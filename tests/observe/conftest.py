"""A little guest memory to put things into, and small programs in place of a vmlinux."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from recorded_guest import recording

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.attach.recording import Recording
from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.recorded import recorded_kernel
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Range

Patch = Callable[[int, bytes], None]


class LittleMemory:
    """Physical memory that has the given ranges of RAM, all zeros, and lets a test write to it."""

    name = "test"

    def __init__(self, ranges: Iterable[Range]) -> None:
        self.ranges = tuple(ranges)
        self._data = {ram: bytearray(len(ram)) for ram in self.ranges}

    def view(self, address: int, size: int) -> memoryview:
        return memoryview(self._at(address, size)).toreadonly()

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._at(address, size))

    def readinto(self, address: int, buffer: memoryview) -> None:
        buffer[:] = self._at(address, len(buffer))

    def write(self, address: int, data: bytes) -> None:
        self._at(address, len(data))[:] = data

    def close(self) -> None:
        """Nothing is held."""

    def _at(self, address: int, size: int) -> memoryview:
        for ram, data in self._data.items():
            if ram.start <= address and address + size <= ram.end:
                return memoryview(data)[address - ram.start :][:size]
        raise MemoryFault(address, "no RAM of this guest")


@dataclass(frozen=True)
class RecordedGuest:
    """A real guest at one moment (``fixtures/guests``); its memory may be overwritten."""

    name: str
    memory: Snapshot
    told: Recording

    def vmlinux(self, *absent: str) -> Vmlinux:
        """What was recorded of it, without the facts (``"symbol idt_descr"``) that are said to be absent."""
        facts = self.told.facts
        return Vmlinux.from_json({**facts, "answers": {**facts["answers"], **dict.fromkeys(absent)}})

    def kernel(self, *absent: str) -> Kernel:
        """The kernel, without the facts that are said to be absent."""
        return replace(recorded_kernel(self.memory, self.told), vmlinux=self.vmlinux(*absent))


@pytest.fixture(params=["pae", "nopae"])
def recorded_guest(request: pytest.FixtureRequest) -> RecordedGuest:
    """Each of the recorded guests in turn (fixtures/guests/README.md), fresh for every test."""
    return RecordedGuest(request.param, *recording(request.param))


@pytest.fixture
def little_memory() -> Callable[..., LittleMemory]:
    """``little_memory((start, end), ...)``: memory with RAM there; one MiB from 0 if nothing is said."""

    def make(*ranges: tuple[int, int]) -> LittleMemory:
        return LittleMemory(Range(*ends) for ends in ranges or ((0, 1 << 20),))

    return make


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing learned in a test reaches the user's cache, or comes from it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def recorded(recorded_guest: RecordedGuest) -> Kernel:
    """The kernel of a recorded guest, on a snapshot of its own."""
    return recorded_guest.kernel()


@pytest.fixture
def patch(recorded: Kernel) -> Patch:
    """``patch(virtual, data)``: break something in the recorded guest."""

    def write(virtual: int, data: bytes) -> None:
        assert isinstance(recorded.memory, Snapshot)
        recorded.memory.patch(recorded.physical(virtual), data)

    return write

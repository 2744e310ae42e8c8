"""A little guest memory to put things into, and small programs in place of a vmlinux."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Range

GUESTS = Path(__file__).resolve().parents[2] / "fixtures" / "guests"

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
    document: dict[str, Any]

    def kernel(self, *absent: str) -> Kernel:
        """The kernel, without the facts (``"symbol idt_descr"``) that are said to be absent."""
        vmlinux = self.document["facts"]
        told = Vmlinux.from_json({**vmlinux, "answers": {**vmlinux["answers"], **dict.fromkeys(absent)}})
        slide, lowmem_end = self.document["slide"], self.document["lowmem_end"]
        return Kernel(told, slide, self.memory, told.page_offset, lowmem_end)


@pytest.fixture(params=["pae", "nopae"])
def recorded_guest(request: pytest.FixtureRequest) -> RecordedGuest:
    """Each of the recorded guests in turn (fixtures/guests/README.md), fresh for every test."""
    document = json.loads((GUESTS / f"{request.param}.json").read_text())
    return RecordedGuest(request.param, Snapshot.load(GUESTS / f"{request.param}.snapshot"), document)


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

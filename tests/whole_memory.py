"""A running guest made of a recorded one: reading it anywhere succeeds or fails as it would there."""

from __future__ import annotations

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.errors import MemoryFault
from kvmtools.records import PAGE_SIZE


class WholeMemory:
    """A guest's memory again, made of a recording: pages that nobody recorded are zeros."""

    name = "test"

    def __init__(self, recording: Snapshot) -> None:
        self._recording = recording
        self.ranges = recording.ranges

    def view(self, address: int, size: int) -> memoryview:
        return memoryview(self.read(address, size))

    def read(self, address: int, size: int) -> bytes:
        data = bytearray(size)
        self.readinto(address, memoryview(data))
        return bytes(data)

    def readinto(self, address: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            at = address + done
            length = min(len(buffer) - done, PAGE_SIZE - at % PAGE_SIZE)
            buffer[done : done + length] = self._piece(at, length)
            done += length

    def close(self) -> None:
        """Nothing is held."""

    def _piece(self, address: int, size: int) -> bytes:
        try:
            return self._recording.read(address, size)
        except MemoryFault:
            if not any(address in ram for ram in self.ranges):
                raise
            return bytes(size)

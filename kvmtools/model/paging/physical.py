"""A physical memory to build in: 4 KiB frames that come into being when they are written, zero until then.

It stands where a guest's RAM stands for the observer: :meth:`Physical.read`
is what :mod:`kvmtools.model.paging.walk` walks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kvmtools.errors import MemoryFault
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Range

WHOLE = (Range(0, 1 << 36),)
"""64 GiB without a hole: what PAE first promised (SDM 3A 4.1.4: MAXPHYADDR of the Pentium Pro)."""


class Memory(Protocol):
    """What can hold page tables; :class:`Physical` is one."""

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at a physical address; :class:`MemoryFault` where there is no RAM."""

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at a physical address; :class:`MemoryFault` where there is no RAM."""


class Physical:
    """RAM in the given ranges of addresses, and nothing elsewhere.

    :param ranges: byte addresses, in any order; what touches is one range
    """

    def __init__(self, ranges: Iterable[Range] = WHOLE) -> None:
        merged: list[Range] = []
        for each in sorted(ranges):
            if merged and each.start <= merged[-1].end:
                merged[-1] = Range(merged[-1].start, max(merged[-1].end, each.end))
            else:
                merged.append(each)
        self.ranges = tuple(merged)
        self._frames: dict[int, bytearray] = {}

    @property
    def frames(self) -> tuple[int, ...]:
        """Page frame numbers that have been written, ascending."""
        return tuple(sorted(self._frames))

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at a physical address; zeros where nothing was written.

        :raises MemoryFault: if any of them is not RAM
        """
        self._check(address, size)
        offset = address % PAGE_SIZE
        if offset + size <= PAGE_SIZE:
            frame = self._frames.get(address >> PAGE_SHIFT)
            return bytes(size) if frame is None else bytes(frame[offset : offset + size])
        head = PAGE_SIZE - offset
        return self.read(address, head) + self.read(address + head, size - head)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at a physical address.

        :raises MemoryFault: if any of them would not be RAM; then nothing is written
        """
        self._check(address, len(data))
        while data:
            offset = address % PAGE_SIZE
            head = data[: PAGE_SIZE - offset]
            frame = self._frames.setdefault(address >> PAGE_SHIFT, bytearray(PAGE_SIZE))
            frame[offset : offset + len(head)] = head
            address += len(head)
            data = data[len(head) :]

    def _check(self, address: int, size: int) -> None:
        if not any(ram.start <= address and address + size <= ram.end for ram in self.ranges):
            raise MemoryFault(address, f"{size} bytes there are not all RAM")

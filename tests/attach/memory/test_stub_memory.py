"""Memory by a gdbstub's packets, and by something else above 4 GiB."""

from __future__ import annotations

from typing import Any

import pytest

from kvmtools.attach.memory.physical import FOUR_GIB, Segment, SegmentedMemory
from kvmtools.attach.memory.stub_memory import StubMemory
from kvmtools.errors import MemoryFault
from kvmtools.records import Range

RANGES = [Range(0, 0x3000), Range(FOUR_GIB, FOUR_GIB + 0x3000)]


class Stub:
    """Its addresses have 32 bits."""

    def read_physical(self, address: int, size: int) -> bytes:
        return bytes((address + i) % FOUR_GIB >> 4 & 0xFF for i in range(size))


class Truth(SegmentedMemory):
    name = "xp"

    def __init__(self) -> None:
        super().__init__(Segment(each.start, each.end, each.start) for each in RANGES)

    def _copy(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = b"\xaa" * len(buffer)


def test_which_part_is_read_how() -> None:
    stub: Any = Stub()
    alone, both = StubMemory(stub, RANGES), StubMemory(stub, RANGES, Truth())
    assert (alone.name, both.name) == ("gdbstub", "gdbstub, xp above 4 GiB")
    assert (alone.suspected, both.suspected) == (True, False)
    for memory in (alone, both):
        assert memory.read(0x12, 3) == b"\x01\x01\x01"
        with pytest.raises(MemoryFault):
            memory.read(0x2FFF, 2)
        memory.close()
    assert alone.read(FOUR_GIB + 0x12, 1) == b"\x01", "which is wrong, and has to be found out"
    assert both.read(FOUR_GIB + 0x12, 3) == b"\xaa" * 3

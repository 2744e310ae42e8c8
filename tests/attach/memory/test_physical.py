from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.attach.memory.physical import Segment, SegmentedMemory, Segments
from kvmtools.errors import MemoryFault
from kvmtools.records import Range

PC = [Segment(0, 0xA000, 0), Segment(0xC000, 0x30000, 0xC000), Segment(1 << 32, (1 << 32) + 0x8000, 0x30000)]


class Bytes(SegmentedMemory):
    name = "bytes"

    def __init__(self, data: bytes, segments: list[Segment]) -> None:
        super().__init__(segments)
        self.data = data

    def _copy(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.data[offset : offset + len(buffer)]


@pytest.fixture
def memory() -> Bytes:
    return Bytes(bytes((i * 7 ^ i >> 12) & 0xFF for i in range(0x38000)), PC)


def test_the_pci_hole_is_not_in_the_backend(memory: Bytes) -> None:
    assert memory.read((1 << 32) + 5, 3) == memory.data[0x30005:0x30008]
    assert memory.read(5, 3) == memory.data[5:8] != memory.read((1 << 32) + 5, 3)


@pytest.mark.parametrize(
    ("address", "size", "first_bad"),
    [
        (0x9FFF, 2, 0xA000),
        (0xA000, 1, 0xA000),
        (0xBFFF, 1, 0xBFFF),
        (0x2FFFF, 2, 0x30000),
        ((1 << 32) - 1, 2, (1 << 32) - 1),
        ((1 << 32) + 0x7FFF, 2, (1 << 32) + 0x8000),
        (1 << 40, 1, 1 << 40),
    ],
)
def test_what_is_no_ram_faults_at_its_first_byte(
    memory: Bytes, address: int, size: int, first_bad: int
) -> None:
    for ask in (memory.read, memory.view, lambda a, s: memory.readinto(a, memoryview(bytearray(s)))):
        with pytest.raises(MemoryFault) as caught:
            ask(address, size)
        assert caught.value.address == first_bad


def test_neighbouring_segments_are_one_range_and_read_across() -> None:
    data = bytes(range(64))
    memory = Bytes(data, [Segment(16, 32, 0), Segment(0, 16, 48), Segment(40, 48, 20)])
    assert memory.ranges == (Range(0, 32), Range(40, 48))
    assert memory.read(12, 8) == data[60:64] + data[0:4]
    assert bytes(memory.view(12, 8)) == data[60:64] + data[0:4]
    assert memory.view(12, 8).readonly


def test_nothing_is_read_of_nothing(memory: Bytes) -> None:
    assert memory.read(0x9FFF, 0) == b""


@given(st.integers(0, 0x31), st.integers(1, 0x31))
def test_pieces_add_up_or_fault(address: int, size: int) -> None:
    segments = [Segment(0, 10, 0), Segment(12, 20, 12), Segment(20, 40, 90)]
    wanted = set(range(address, address + size))
    bad = wanted & {10, 11, *range(40, 200)}
    if bad:
        with pytest.raises(MemoryFault) as caught:
            Segments(segments).locate(address, size)
        assert caught.value.address == min(bad)
    else:
        pieces = Segments(segments).locate(address, size)
        places = [place for offset, length in pieces for place in range(offset, offset + length)]
        assert places == [byte if byte < 20 else byte + 70 for byte in range(address, address + size)]

"""The memory to build in."""

from __future__ import annotations

import pytest

from kvmtools.errors import MemoryFault
from kvmtools.model.paging.physical import Physical
from kvmtools.records import Range

RAM = (Range(0x3000, 0x5000), Range(0, 0x9FC), Range(0x5000, 0x5800))


def test_memory_is_zero_until_it_is_written() -> None:
    memory = Physical()
    assert memory.read(0xFFF, 3) == b"\0\0\0"
    assert memory.frames == ()
    memory.write(0x2FFE, b"abcd")
    assert memory.frames == (2, 3)
    assert memory.read(0x2FFD, 6) == b"\0abcd\0"
    memory.write(0x2FFF, b"x")
    assert memory.read(0x2FFE, 4) == b"axcd"
    assert memory.read(0x2000, 0) == b""


def test_it_is_64_gib_unless_told_otherwise() -> None:
    memory = Physical()
    assert memory.ranges == (Range(0, 64 << 30),)
    memory.write((64 << 30) - 1, b"!")
    assert memory.frames == ((64 << 18) - 1,)
    with pytest.raises(MemoryFault):
        memory.read((64 << 30) - 1, 2)
    with pytest.raises(MemoryFault):
        memory.write(-1, b"!")


def test_large_reads_and_writes_pass_through_every_frame() -> None:
    memory = Physical()
    data = bytes(index % 251 for index in range(0x3456))
    memory.write(0x7FFF, data)
    assert memory.read(0x7FFF, len(data)) == data
    assert memory.frames == (7, 8, 9, 10, 11)
    # A frame that nobody wrote, between two that somebody did.
    memory.write(0x20FFF, b"a")
    memory.write(0x22000, b"b")
    assert memory.read(0x20FFF, 0x1002) == b"a" + bytes(0x1000) + b"b"


def test_ranges_that_touch_are_one() -> None:
    assert Physical(RAM).ranges == (Range(0, 0x9FC), Range(0x3000, 0x5800))
    assert Physical((Range(0, 0x3000), Range(0x1000, 0x2000))).ranges == (Range(0, 0x3000),)
    assert Physical((Range(0, 0x1000), Range(0x1001, 0x2000))).ranges == (
        Range(0, 0x1000),
        Range(0x1001, 0x2000),
    )
    assert Physical((Range(0, 0x1000), Range(0x3000, 0x6000), Range(0x4000, 0x5000))).ranges == (
        Range(0, 0x1000),
        Range(0x3000, 0x6000),
    )
    assert Physical(()).ranges == ()


@pytest.mark.parametrize(
    ("address", "size"), [(0, 0x9FC), (0x9FB, 1), (0x3000, 0x2800), (0x4FFF, 2), (0x57FF, 1)]
)
def test_inside_the_ranges(address: int, size: int) -> None:
    memory = Physical(RAM)
    memory.write(address, b"\xff" * size)
    assert memory.read(address, size) == b"\xff" * size


@pytest.mark.parametrize(
    ("address", "size"),
    [(0, 0x9FD), (0x9FB, 2), (0x2FFF, 1), (0x2FFF, 2), (0x57FF, 2), (0x5800, 1), (0, 0x4000)],
)
def test_outside_of_them(address: int, size: int) -> None:
    memory = Physical(RAM)
    with pytest.raises(
        MemoryFault, match=rf"physical address {address:#x}: {size} bytes there are not all RAM"
    ):
        memory.read(address, size)
    with pytest.raises(MemoryFault) as raised:
        memory.write(address, b"\xff" * size)
    assert raised.value.address == address
    assert memory.frames == ()

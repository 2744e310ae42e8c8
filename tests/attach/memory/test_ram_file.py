from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmtools.attach.memory.file_memory import FileMemory
from kvmtools.attach.memory.flat_view import Backed
from kvmtools.attach.memory.mapped_file import MappedFile
from kvmtools.attach.memory.ram_file import RamFile
from kvmtools.errors import AttachError, MemoryFault

MIB = 1 << 20
LOW = 3 * MIB
MAP = [
    Backed(0, 0xA0000, "ram", 0),
    Backed(0xC0000, LOW, "ram", 0xC0000),
    Backed(1 << 32, (1 << 32) + MIB, "ram", LOW),
]


@pytest.fixture
def shared() -> Iterator[Path]:
    """4 MiB of sparse tmpfs with data at 1 MiB and, above the hole, at 4 GiB."""
    path = Path(f"/dev/shm/kvmtools-test-{os.getpid()}")
    with path.open("wb") as file:
        file.truncate(4 * MIB)
        os.pwrite(file.fileno(), b"low" * 4096, MIB)
        os.pwrite(file.fileno(), b"high" * 1024, LOW)
    yield path
    path.unlink()


def blocks(path: Path) -> int:
    return path.stat().st_blocks


def test_the_same_file_has_low_and_high_memory(shared: Path) -> None:
    memory = RamFile(shared, MAP)
    assert memory.read(MIB, 3) == b"low"
    assert memory.read(1 << 32, 4) == b"high"
    with pytest.raises(MemoryFault):
        memory.read(LOW, 1)
    with pytest.raises(MemoryFault):
        memory.view(0xA0000, 1)
    memory.close()


def test_a_view_is_the_live_memory_and_cannot_change_it(shared: Path) -> None:
    memory = RamFile(shared, MAP)
    view = memory.view(1 << 32, 4)
    with shared.open("r+b") as file:
        os.pwrite(file.fileno(), b"HIGH", LOW)
    assert bytes(view) == b"HIGH"
    with pytest.raises(TypeError):
        view[0] = 0
    memory.close()


def test_views_outlive_the_memory(shared: Path) -> None:
    memory = RamFile(shared, MAP)
    view = memory.view(MIB, 3)
    memory.close()
    memory.close()
    del memory
    gc.collect()
    assert bytes(view) == b"low"


def test_the_mapping_goes_with_its_last_view(shared: Path) -> None:
    def mapped() -> bool:
        return shared.name in Path("/proc/self/maps").read_text()

    with shared.open("rb") as file:
        mapping = MappedFile(file.fileno(), 4 * MIB)
        view = mapping.view(0, 16)
        del mapping
        assert mapped()
        del view
        assert not mapped()


def test_looking_at_a_hole_allocates_nothing(shared: Path) -> None:
    before = blocks(shared)
    memory = RamFile(shared, MAP)
    assert bytes(memory.view(2 * MIB, MIB)) == bytes(MIB)
    assert bytes(memory.view(MIB + 8 * 4096, 64)) == bytes(64)
    assert memory.read((1 << 32) + MIB // 2, 4096) == bytes(4096)
    assert blocks(shared) == before
    # That this can fail: the same look through a bare mapping does allocate.
    with shared.open("rb") as file:
        bytes(MappedFile(file.fileno(), 4 * MIB).view(2 * MIB, 4096))
    assert blocks(shared) == before + 8
    memory.close()


def test_the_next_data_is_told_by_guest_addresses(shared: Path) -> None:
    memory = RamFile(shared, MAP)
    assert memory.next_data(0xC0000) == MIB
    assert memory.next_data(MIB + 5) == MIB + 5
    assert memory.next_data((1 << 32) + 7) == (1 << 32) + 7
    # Behind the last data, and where the next is in another segment: a hint leads nowhere else.
    assert memory.next_data((1 << 32) + MIB // 2) == (1 << 32) + MIB // 2
    assert memory.next_data(2 * MIB) == 2 * MIB
    assert memory.next_data(0x1000) == 0x1000
    memory.close()


def test_a_closed_file_says_so(shared: Path) -> None:
    memory = RamFile(shared, MAP)
    memory.close()
    for ask in (memory.read, memory.view):
        with pytest.raises(AttachError, match="closed"):
            ask(MIB, 1)


def test_a_file_cut_while_in_use_is_not_zeros(shared: Path) -> None:
    memory: FileMemory = RamFile(shared, MAP)
    os.truncate(shared, LOW)
    with pytest.raises(AttachError, match="cut while in use"):
        memory.read(1 << 32, 4)
    memory.close()


@pytest.mark.parametrize(
    ("size", "backed", "why"),
    [
        (MIB, MAP, "holds 0x100000 bytes, this guest's RAM needs 0x400000"),
        (None, MAP, "cannot read"),
        (4 * MIB, [*MAP, Backed(1 << 33, (1 << 33) + 4096, "dimm", 0)], "several files"),
    ],
)
def test_a_file_that_cannot_be_the_ram(
    tmp_path: Path, size: int | None, backed: list[Backed], why: str
) -> None:
    path = tmp_path / "ram"
    if size is not None:
        path.write_bytes(b"")
        os.truncate(path, size)
    with pytest.raises(AttachError, match=why):
        RamFile(path, backed)

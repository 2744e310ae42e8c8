"""Compressed dumps, read by a library that stands in for libkdumpfile; tests/live/test_core.py has the real one."""

from __future__ import annotations

import os
import struct
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kvmtools.attach.core_target import CoreTarget
from kvmtools.attach.memory.flattened import rearranged
from kvmtools.errors import AttachError, MemoryFault
from kvmtools.records import PAGE_SIZE, Range

DUMP = b"KDUMP   " + bytes(100)
PAGES = [*range(0x100), *range(0x100, 0x200), *range(0xFD000, 0xFD010), *range(0x10_0000, 0x10_0010)]
LEFT_OUT = 0x150


class Failed(Exception):
    """The library's own."""


class NoData(Failed):
    """It has none of it."""


class Bits:
    def find_set(self, at: int) -> int:
        return self._find(at, True)

    def find_clear(self, at: int) -> int:
        return self._find(at, False)

    def _find(self, at: int, wanted: bool) -> int:
        for number in range(at, max(PAGES) + 2):
            if (number in PAGES) is wanted:
                return number
        raise NoData("No such bit found")


class Dump:
    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            if not file.read().startswith(b"KDUMP   "):
                raise Failed("Unknown file format")
        self.attr = {"memory.pagemap": Bits(), "linux.vmcoreinfo.raw": b"OSRELEASE=6.1\n"}

    def read(self, _space: int, address: int, size: int) -> bytearray:
        pages = range(address // PAGE_SIZE, (address + size - 1) // PAGE_SIZE + 1)
        if LEFT_OUT in pages:
            raise NoData("Excluded page")
        if 0x120 in pages:
            raise Failed("Corrupted data")
        return bytearray(address.to_bytes(8, "little") * -(-size // 8))[:size]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    found, exceptions = ModuleType("kdumpfile"), ModuleType("kdumpfile.exceptions")
    found.__dict__.update(kdumpfile=Dump, KDUMP_MACHPHYSADDR=2, exceptions=exceptions)
    exceptions.__dict__.update(KDumpBaseException=Failed, NoDataException=NoData)
    monkeypatch.setitem(sys.modules, "kdumpfile", found)
    monkeypatch.setitem(sys.modules, "kdumpfile.exceptions", exceptions)


def file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def flat(*pieces: tuple[int, bytes]) -> bytes:
    parts = b"".join(struct.pack(">qq", at, len(data)) + data for at, data in pieces)
    return b"makedumpfile".ljust(4096, b"\0") + parts + struct.pack(">qq", -1, -1)


@pytest.mark.parametrize("data", [DUMP, flat((8, DUMP[8:]), (0, DUMP[:8]))])
def test_what_a_library_reads(library: None, tmp_path: Path, data: bytes) -> None:
    path = file(tmp_path / "dump", data)
    open_files = len(os.listdir("/proc/self/fd"))
    with CoreTarget(path) as target:
        assert target.description == f"core {path}: 0 vCPUs, 2 MiB"
        assert target.recording is None
        assert (target.registers(), target.general_registers()) == ((), ())
        assert target.vmcoreinfo() == "OSRELEASE=6.1\n"
        memory = target.memory
        # The frame buffer at 0xfd000000 is none.
        assert memory.ranges == (Range(0, 0x20_0000), Range(1 << 32, (1 << 32) + 0x1_0000))
        assert memory.read(0x3000, 8) == (0x3000).to_bytes(8, "little")
        assert memory.read((1 << 32) + 8, 8) == ((1 << 32) + 8).to_bytes(8, "little")
        with pytest.raises(MemoryFault, match="0x150000: it was not captured"):
            memory.read(0x14_F000, 0x3000)
        with pytest.raises(MemoryFault, match="no RAM of this guest"):
            memory.read(0x20_0000, 1)
        with pytest.raises(AttachError, match=f"libkdumpfile cannot read {path} at 0x120000: Corrupted data"):
            memory.read(0x12_0000, 1)
    with pytest.raises(AttachError, match="is closed"):
        memory.read(0, 1)
    assert len(os.listdir("/proc/self/fd")) == open_files


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"DISKDUMP" + bytes(100), "libkdumpfile cannot read .*dump: Unknown file format"),
        (flat((0, b"nothing")), "libkdumpfile cannot read .*dump: Unknown file format"),
        (flat((0, DUMP))[:-8], "is a damaged flattened dump: it was cut off"),
        (flat((0, DUMP))[:4200], "is a damaged flattened dump: it was cut off"),
        (flat((-9, DUMP)), "is a damaged flattened dump: a piece of it lies nowhere"),
    ],
)
def test_what_it_does_not_read(library: None, tmp_path: Path, data: bytes, why: str) -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AttachError, match=why):
        CoreTarget(file(tmp_path / "dump", data))
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kdumpfile", None)
    with pytest.raises(
        AttachError, match=r"is a compressed dump, and this Python has no libkdumpfile.*Debian"
    ):
        CoreTarget(file(tmp_path / "dump", DUMP))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match="No such file"):
        CoreTarget(tmp_path / "none")


def test_no_room_to_rearrange_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(AttachError, match="cannot rearrange dump: No space left on device"):
        rearranged(BytesIO(flat((0, DUMP))), Path("dump"))

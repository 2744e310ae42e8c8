"""What is written of a recorded guest, and read again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmtools.attach.core_target import CoreTarget
from kvmtools.attach.general_registers import GeneralRegisters
from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.memory.physical import Segment, SegmentedMemory
from kvmtools.attach.memory.recording_file import Contents, write
from kvmtools.attach.recording import Recording
from kvmtools.errors import AttachError, MemoryFault, OutputError, UsageError
from kvmtools.records import PAGE_SIZE, Range, Registers

FOUR_GIB = 1 << 32
PAGE_OFFSET = 0xC000_0000
RAM = (Range(0, 0xA_0000), Range(0x10_0000, 0x80_0000), Range(FOUR_GIB, FOUR_GIB + 0x10_0000))
KEPT = (
    Range(0x1000, 0x3000),
    Range(0x10_0000, 0x30_0000),
    Range(FOUR_GIB + 0x2000, FOUR_GIB + 0x4000),
)
CPU = GeneralRegisters(*range(17))
INFO = "OSRELEASE=6.1\nPAGESIZE=4096\nKERNELOFFSET=0\nSYMBOL(swapper_pg_dir)=c0001000\n"
REGISTERS = Registers(0, 12, 0x8005_0033, 0x119_2020, 0x6B0, 0x800, 0xFFA0_0000)


class Ram(SegmentedMemory):
    """Every page holds its own address; a long stretch holds nothing but zeros."""

    name = "test"

    def __init__(self) -> None:
        super().__init__(Segment(each.start, each.end, each.start) for each in RAM)

    def close(self) -> None:
        pass

    def _copy(self, offset: int, buffer: memoryview) -> None:
        assert offset % PAGE_SIZE == 0
        for at in range(0, len(buffer), PAGE_SIZE):
            page = offset + at
            empty = 0x14_0000 <= page < 0x2C_0000
            filled = bytes(PAGE_SIZE) if empty else page.to_bytes(8, "little") * (PAGE_SIZE // 8)
            buffer[at : at + PAGE_SIZE] = filled[: len(buffer) - at]


def contents(kept: tuple[Range, ...] = KEPT) -> Contents:
    told = Recording("a test", (REGISTERS,), RAM, 0x100_0000, {"schema": "kvmtools-facts/1"}, "log\n")
    virtual = [(PAGE_OFFSET + each.start, each) for each in kept if each.end < FOUR_GIB]
    virtual.append((0xFF60_0000, Range(FOUR_GIB + 0x3000, FOUR_GIB + 0x4000)))
    virtual.append((0xFFA0_0000, Range(0x2000, 0x3000)))
    shown = [each for each in virtual if any(each[1].start in one for one in kept)]
    return Contents(Ram(), kept, sorted(shown, key=lambda each: each[1]), told, (CPU, CPU), INFO)


def written(path: Path, *, compress: bool = False, kept: tuple[Range, ...] = KEPT) -> Path:
    write(path, contents(kept), compress=compress, progress=lambda _line: None)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kept", [KEPT, KEPT[:2]])
def test_what_was_written_is_read(tmp_path: Path, compress: bool, kept: tuple[Range, ...]) -> None:
    with CoreTarget(written(tmp_path / "core", compress=compress, kept=kept)) as target:
        assert target.recording == contents().recording
        assert target.registers() == (REGISTERS,)
        assert target.general_registers() == (CPU, CPU)
        assert target.vmcoreinfo() == INFO
        assert target.description == f"core {tmp_path / 'core'}: 1 vCPU, 8 MiB"
        memory = target.memory
        assert isinstance(memory, ElfCore)
        assert (memory.ranges, memory.captured) == (RAM, kept)
        for each in kept:
            assert memory.read(each.start, len(each)) == Ram().read(each.start, len(each))


def test_what_was_not_captured_is_told_from_what_is_no_ram(tmp_path: Path) -> None:
    core = ElfCore(written(tmp_path / "core"))
    for address in (0, 0x3000, FOUR_GIB):
        with pytest.raises(MemoryFault, match="it was not captured"):
            core.read(address, 1)
    for address in (0xA_0000, FOUR_GIB + 0x10_0000):
        with pytest.raises(MemoryFault, match="no RAM of this guest"):
            core.read(address, 1)
    with pytest.raises(MemoryFault, match="0x3000: it was not captured"):
        core.read(0x2FFF, 2)
    core.close()


def test_every_place_at_which_a_page_is_mapped_has_a_header(tmp_path: Path) -> None:
    loads = [(load.virtual, load.physical, load.size) for load in contents().loads()]
    assert loads == [
        (0xC000_1000, 0x1000, 0x2000),
        (0xFFA0_0000, 0x2000, 0x1000),
        (0xC010_0000, 0x10_0000, 0x20_0000),
        (None, FOUR_GIB + 0x2000, 0x1000),
        (0xFF60_0000, FOUR_GIB + 0x3000, 0x1000),
    ]


def test_twice_the_same_bytes_and_zeros_take_no_room(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_blocks * 512 < one.stat().st_size - 0x10_0000


@pytest.mark.parametrize("kept", [KEPT, KEPT[:2]])
def test_readelf_finds_it_well_formed(tmp_path: Path, kept: tuple[Range, ...]) -> None:
    words = ["readelf", "--all", "--wide", str(written(tmp_path / "core", kept=kept))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not [line for line in done.stdout.splitlines() if "warning" in line.lower()]
    assert "CORE (Core file)" in done.stdout
    assert done.stdout.count("NT_PRSTATUS") == 2


@pytest.mark.parametrize("kept", [KEPT, KEPT[:2]], ids=["ELF64", "ELF32"])
def test_gdb_and_drgn_find_pages_where_the_kernel_maps_them(tmp_path: Path, kept: tuple[Range, ...]) -> None:
    path = written(tmp_path / "core", kept=kept)
    shown = {0xC000_1000: 0x1000, 0xC000_2000: 0x2000, 0xFFA0_0000: 0x2000, 0xC010_3000: 0x10_3000}
    if kept is KEPT:
        shown[0xFF60_0000] = FOUR_GIB + 0x3000
    words = [part for virtual in shown for part in ("-ex", f"x/1gx {virtual:#x}")]
    command = ["gdb", "-q", "-nx", "-batch", "-ex", f"core {path}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for virtual, value in shown.items():
        assert f"{virtual:#x}:\t{value:#018x}" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", DRGN, path, *map(str, (*shown, *NOWHERE))],
        env={**os.environ, "DRGN_DISABLE_PLUGINS": "*"},  # ours would look for a kernel in it
        capture_output=True,
        text=True,
        check=True,
    )
    values = [str(value) for value in shown.values()]
    assert done.stdout.split() == [*values, *["FaultError"] * len(NOWHERE)]


NOWHERE = (0, 0x2000, 0xC000_0000, 0xC040_0000)
DRGN = """
import sys, drgn
program = drgn.Program()
program.set_core_dump(sys.argv[1])
for address in map(int, sys.argv[2:]):
    try:
        print(int.from_bytes(program.read(address, 8), "little"))
    except drgn.FaultError:
        print("FaultError")
"""


def boundaries(path: Path) -> list[int]:
    """Where something of the file ends, and the bytes around it."""
    core = ElfCore(path)
    size = path.stat().st_size
    core.close()
    edges = [0, 4, 16, 52, 64, 64 + 56, 64 + 56 * 6, 512, 1024, 4096, 4096 + 0x2000, size - 0x2000, size - 1]
    return sorted({at for edge in edges for at in (edge - 1, edge, edge + 1) if 0 <= at < size})


def test_a_file_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "core")
    whole = path.read_bytes()
    for size in boundaries(path):
        path.write_bytes(whole[:size])
        with pytest.raises(AttachError) as caught:
            ElfCore(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_compressed_file_that_was_cut_or_damaged_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "core", compress=True)
    whole = path.read_bytes()
    for size in (0, 3, 4, 5, 17, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(AttachError, match=str(path)):
            ElfCore(path)
    path.write_bytes(whole[:8] + b"\xff" * 64 + whole[72:])
    with pytest.raises(AttachError, match="is a damaged Zstandard file"):
        ElfCore(path)


def test_a_damaged_note_names_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "core")
    path.write_bytes(path.read_bytes().replace(b"kvmtools-recording/1", b"kvmtools-recording/9"))
    with pytest.raises(AttachError, match=f"^{path} is a recording of the form kvmtools-recording/9"):
        ElfCore(path)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvmtools.attach.memory.zstd._library", lambda: None)


def test_without_a_library_for_zstandard(
    tmp_path: Path, no_library: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no library for Zstandard is installed"):
        written(tmp_path / "core", compress=True)
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    path = written(tmp_path / "core", compress=True)
    monkeypatch.setattr("kvmtools.attach.memory.zstd._library", lambda: None)
    with pytest.raises(AttachError, match=f"{path} is compressed with Zstandard, and no library"):
        ElfCore(path)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    path = written(tmp_path / "core", compress=True)
    before = len(os.listdir("/proc/self/fd"))
    ElfCore(path).close()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AttachError):
        ElfCore(path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("when", [0, 1])
def test_an_interrupt_leaves_nothing(tmp_path: Path, when: int) -> None:
    told: list[str] = []

    def interrupt(line: str) -> None:
        told.append(line)
        if len(told) > when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "core", contents(), compress=False, progress=interrupt)
    assert os.listdir(tmp_path) == []
    assert told[0] == "writing 0 of 2 MiB"


def test_no_place_for_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        written(tmp_path / "none" / "core")

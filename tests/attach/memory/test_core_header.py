"""The head of a core, read by our reader and by another's."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kvmtools.attach.elf import PT_LOAD, ElfFile, Note
from kvmtools.attach.memory.core_header import Load, core_head

FOUR_GIB = 1 << 32
NOTES = [Note("CORE", 1, bytes(144)), Note("KVMTOOLS", 9, b"{}"), Note("VMCOREINFO", 0, b"A=1\n")]
LOW = Load(0xC000_1000, 0x1000, 0x2000, 0)
HIGH = Load(None, 0x4000_0000, 0x1000, 0x2000)
ABOVE = Load(None, FOUR_GIB, 0x1000, 0x3000)


def written(path: Path, loads: list[Load]) -> Path:
    path.write_bytes(core_head(loads, NOTES))
    return path


@pytest.mark.parametrize(
    ("loads", "bits"),
    [
        ([LOW, HIGH], 32),
        ([Load(None, FOUR_GIB - 0x1000, 0x1000, 0)], 32),
        ([LOW, HIGH, ABOVE], 64),
        ([Load(None, FOUR_GIB - 0x1000, 0x2000, 0)], 64),
        ([Load(0, 0, 0x1000, FOUR_GIB - 0x1000)], 64),
    ],
)
def test_as_wide_as_it_must_be(tmp_path: Path, loads: list[Load], bits: int) -> None:
    path = written(tmp_path / "core", loads)
    size = path.stat().st_size
    assert size % 4096 == 0
    with path.open("rb") as file:
        ours, theirs = ElfFile(file.fileno()), ELFFile(file)
        assert (ours.form.bits, theirs.elfclass, theirs["e_type"], theirs["e_machine"]) == (
            bits,
            bits,
            "ET_CORE",
            "EM_386",
        )
        found = [each for each in ours.segments if each.type == PT_LOAD]
        nowhere = (1 << bits) - 1
        assert [(each.virtual, each.physical, each.file_size, each.offset - size) for each in found] == [
            (nowhere if load.virtual is None else load.virtual, load.physical, load.size, load.offset)
            for load in loads
        ]
        segments = list(theirs.iter_segments())
        assert [each["p_paddr"] for each in segments[1:]] == [load.physical for load in loads]
        assert all(each["p_memsz"] == each["p_filesz"] for each in segments)
        assert list(ours.notes()) == NOTES
        assert [note["n_name"] for note in segments[0].iter_notes()] == [note.name for note in NOTES]


@pytest.mark.parametrize("above", [[], [ABOVE]])
def test_more_pieces_than_a_header_can_count(tmp_path: Path, above: list[Load]) -> None:
    loads = [Load(0xC000_0000 + at, at, 4096, at) for at in range(0, 70_000 * 4096, 4096)] + above
    with written(tmp_path / "core", loads).open("rb") as file:
        ours = ElfFile(file.fileno())
        assert len(ours.segments) == len(loads) + 1
        assert ours.segments[-1].physical == loads[-1].physical
        assert ELFFile(file).num_segments() == len(loads) + 1

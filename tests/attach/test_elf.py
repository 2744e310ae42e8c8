"""The ELF reader against pyelftools, and against files that end too early."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile as Oracle

from kvmtools.attach.elf import PT_LOAD, ElfError, ElfFile, build_id_among, parse_notes

SOURCE = r"""
int counter = 3;
int zeros[64];
__attribute__((noinline)) int twice(int x) { return 2 * x; }
int _start(void) { return twice(counter) + zeros[5]; }
"""


@pytest.fixture(params=["-m32", "-m64"])
def path(request: pytest.FixtureRequest, compiled: Callable[..., Path]) -> Path:
    return compiled(SOURCE, request.param, "-g", "-O1", "-Wl,--build-id")


@contextmanager
def opened(path: Path) -> Iterator[ElfFile]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield ElfFile(descriptor)
    finally:
        os.close(descriptor)


def test_headers_are_what_pyelftools_reads(path: Path) -> None:
    with opened(path) as elf, path.open("rb") as stream:
        oracle = Oracle(stream)
        assert (elf.form.bits, elf.type, elf.machine) == (
            oracle.elfclass,
            2,  # ET_EXEC
            {32: 3, 64: 62}[oracle.elfclass],
        )
        assert [
            (each.offset, each.virtual, each.physical, each.file_size, each.memory_size)
            for each in elf.segments
        ] == [
            tuple(each[field] for field in ("p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz"))
            for each in oracle.iter_segments()
        ]
        assert [
            (each.name, each.address, each.offset, each.size, each.flags, each.link) for each in elf.sections
        ] == [
            (each.name, *(each[f"sh_{field}"] for field in ("addr", "offset", "size", "flags", "link")))
            for each in oracle.iter_sections()
        ]
        notes = oracle.get_section_by_name(".note.gnu.build-id").iter_notes()
        assert build_id_among(elf.notes()) == next(notes)["n_desc"]
        debug_str = elf.section(".debug_str")
        assert debug_str is not None
        assert elf.content(debug_str) == oracle.get_section_by_name(".debug_str").data()
        assert elf.section(".no_such_section") is None


def symbols_of(path: Path) -> dict[str, int]:
    with path.open("rb") as stream:
        return {
            each.name: each["st_value"]
            for each in Oracle(stream).get_section_by_name(".symtab").iter_symbols()
        }


def test_the_nearest_symbol(path: Path) -> None:
    symbols = symbols_of(path)
    with opened(path) as elf:
        for name in ("twice", "_start", "counter", "zeros"):
            assert elf.nearest_symbol(symbols[name]) == (name, 0)
            assert elf.nearest_symbol(symbols[name] + 1) == (name, 1)
        assert elf.nearest_symbol(symbols["zeros"] + 255) == ("zeros", 255)
        text, bss = elf.section(".text"), elf.section(".bss")
        assert text is not None
        assert bss is not None
        assert elf.nearest_symbol(text.address - 1) is None
        assert elf.nearest_symbol(bss.address + bss.size) is None
        assert elf.nearest_symbol(0) is None
        assert elf.content(bss) == b""


def test_a_stripped_file_knows_no_symbols(path: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, path], check=True)
    with opened(stripped) as elf:
        assert elf.nearest_symbol(symbols_of(path)["twice"]) is None


def test_bytes_are_read_by_their_virtual_address(path: Path) -> None:
    symbols = symbols_of(path)
    with opened(path) as elf:
        assert elf.read(symbols["counter"], 4) == b"\3\0\0\0"
        end = next(
            each for each in elf.segments if each.type == PT_LOAD and each.memory_size > each.file_size
        )
        assert elf.read(end.virtual + end.file_size - 1, 9) is not None
        assert len(elf.read(end.virtual + end.file_size - 1, 9) or b"") == 9
        assert elf.read(0x10, 4) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not an ELF file"),
        (b"\x7fELF", "is truncated"),
        (b"\x7fELF\1\2" + bytes(100), "is not a little-endian ELF file"),
        (b"\x7fELF\3\1" + bytes(100), "is not a little-endian ELF file"),
        (b"\x7fELF\2\1" + bytes(50), "is truncated"),
    ],
)
def test_what_is_no_elf_file_is_said(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ElfError, match=why), opened(tmp_path / "file"):
        pass


def test_every_length_of_a_file_is_read_or_refused(path: Path, tmp_path: Path) -> None:
    """Wherever it is cut: an answer, or an :class:`ElfError` that names the part; never another exception."""
    data, cut = path.read_bytes(), tmp_path / "cut"
    refused = set()
    for size in range(0, len(data), 97):
        cut.write_bytes(data[:size])
        try:
            with opened(cut) as elf:
                whole: list[Any] = [elf.segments, elf.sections, list(elf.notes()), elf.nearest_symbol(0x1000)]
                assert whole
        except ElfError as error:
            refused.add(str(error))
    assert {"is cut off inside its section headers", "is not an ELF file"} <= refused


def test_a_note_that_ends_too_early(path: Path) -> None:
    with opened(path) as elf:
        section = elf.section(".note.gnu.build-id")
        assert section is not None
        notes = elf.content(section)
    assert len(list(parse_notes(notes))) == 1
    with pytest.raises(ElfError, match="note GNU is cut off"):
        list(parse_notes(notes[:-4]))

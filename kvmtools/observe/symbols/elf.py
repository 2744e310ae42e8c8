"""The few things about a vmlinux that can be had without drgn: is it one of ours, its build id, its load
address.

These are asked on every start, so they are read with ``struct`` from the headers alone; a warm command never
reads more of the file.  Layout of the structures: System V ABI, chapter 4 (``elf.h``).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kvmtools.errors import SymbolsError

ELFCLASS32, ELFDATA2LSB, EM_386 = 1, 1, 3
PT_LOAD, PT_NOTE = 1, 4
NT_GNU_BUILD_ID = 3

_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}
_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIIIIIII")
_SECTION_HEADER = struct.Struct("<IIIIIIIIII")
_NOTE_HEADER = struct.Struct("<III")

_WANTED = "give the unstripped i386 vmlinux of the guest's kernel (not bzImage)"


@dataclass(frozen=True)
class Segment:
    """A ``PT_LOAD``: ``file_size`` bytes at ``offset`` belong at ``virtual``, in memory at ``physical``."""

    virtual: int
    physical: int
    offset: int
    file_size: int


@dataclass(frozen=True)
class Elf:
    """Headers of an i386 ELF executable."""

    path: Path
    build_id: str
    """GNU build id in hex, or ``sha256-`` and a digest of the whole file where it has none."""
    segments: tuple[Segment, ...]
    has_dwarf: bool

    @property
    def page_offset(self) -> int:
        """``PAGE_OFFSET``: the kernel is linked so that every address is its load address plus this
        (vmlinux.lds.S).
        """
        first = self.segments[0]
        return (first.virtual - first.physical) & 0xFFFF_FFFF

    def read(self, virtual: int, size: int) -> bytes:
        """Bytes of the file that belong at ``virtual``; what the file does not hold (``.bss``) is zero.

        :raises SymbolsError: if no segment covers the address
        """
        for segment in self.segments:
            inside = virtual - segment.virtual
            if 0 <= inside < segment.file_size:
                with self.path.open("rb") as file:
                    file.seek(segment.offset + inside)
                    data = file.read(min(size, segment.file_size - inside))
                return data.ljust(size, b"\0")
        raise SymbolsError(f"{self.path} holds nothing at {virtual:#x}")


def build_id_in_notes(notes: bytes) -> str | None:
    """The GNU build id in a run of ELF notes, as hex."""
    offset = 0
    while offset + _NOTE_HEADER.size <= len(notes):
        name_size, size, kind = _NOTE_HEADER.unpack_from(notes, offset)
        name_at = offset + _NOTE_HEADER.size
        at = name_at + (name_size + 3 & ~3)
        if kind == NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[at : at + size].hex()
        offset = at + (size + 3 & ~3)
    return None


def read_elf(path: Path) -> Elf:
    """Read the headers of ``path``.

    :raises SymbolsError: if the file cannot be read, is not an ELF executable, or not one for i386
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SymbolsError(f"cannot read vmlinux {path}: {reason}", hint=_WANTED) from error
    except struct.error as error:
        raise SymbolsError(f"{path} is a truncated ELF file", hint=_WANTED) from error


def _read(path: Path, file: BinaryIO) -> Elf:
    start = file.read(_HEADER.size)
    if start[:4] != b"\x7fELF":
        raise SymbolsError(f"{path} is not an ELF file", hint=_WANTED)
    machine = int.from_bytes(start[18:20], "little")
    if (start[4], start[5], machine) != (ELFCLASS32, ELFDATA2LSB, EM_386):
        name = _MACHINES.get(machine, f"machine {machine}")
        raise SymbolsError(f"{path} is for {name}, not i386", hint=_WANTED)
    header = _HEADER.unpack(start)
    program_headers = _table(file, _PROGRAM_HEADER, offset=header[5], count=header[10])
    section_headers = _table(file, _SECTION_HEADER, offset=header[6], count=header[12])
    segments = tuple(
        Segment(virtual, physical, offset, file_size)
        for kind, offset, virtual, physical, file_size, *_ in program_headers
        if kind == PT_LOAD
    )
    if not segments:
        raise SymbolsError(f"{path} is not linked: it has nothing to load", hint=_WANTED)
    build_id = None
    for kind, offset, _virtual, _physical, file_size, *_ in program_headers:
        if kind == PT_NOTE and build_id is None:
            build_id = build_id_in_notes(_bytes(file, offset, file_size))
    names = _section_names(file, section_headers, header[13])
    return Elf(path, build_id or _digest(file), segments, bool(names & {".debug_info", ".zdebug_info"}))


def _bytes(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _table(file: BinaryIO, row: struct.Struct, *, offset: int, count: int) -> list[tuple[int, ...]]:
    data = _bytes(file, offset, count * row.size)
    return [row.unpack_from(data, index * row.size) for index in range(count)]


def _section_names(file: BinaryIO, sections: list[tuple[int, ...]], names_index: int) -> set[str]:
    if names_index >= len(sections):
        return set()
    names = _bytes(file, sections[names_index][4], sections[names_index][5])
    return {names[section[0] :].split(b"\0", 1)[0].decode("ascii", "replace") for section in sections}


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    return "sha256-" + hashlib.sha256(file.read()).hexdigest()

"""ELF files, as much of them as a guest needs: the memory and notes of a core; segments, sections and symbols of a
vmlinux.

Both widths, little-endian, read from the headers alone: pyelftools knows all of ELF, but takes longer to import than
we take to open a core.  Source: System V ABI, chapters 4 and 5; ``elf.h``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

ET_CORE = 4
EM_386 = 3
PT_LOAD, PT_NOTE = 1, 4
PN_XNUM = 0xFFFF
"""So many program headers or more: their number stands in the first section header."""
SHT_PROGBITS, SHT_SYMTAB, SHT_NOBITS = 1, 2, 8
SHF_ALLOC = 2
NT_GNU_BUILD_ID = 3

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}
"""``e_machine``, for a person."""

_MAGIC = b"\x7fELF"
_LITTLE_ENDIAN = 1
_NOTE = struct.Struct("<III")
_STT_OBJECT, _STT_FUNC = 1, 2  # before them: STT_NOTYPE


@dataclass(frozen=True, slots=True)
class ElfClass:
    """A width: its structures, and for those whose fields changed places, where each of ours is found."""

    bits: int
    header: struct.Struct
    segment: struct.Struct
    segment_order: tuple[int, ...]
    """Of :class:`ProgramHeader`'s fields."""
    section: struct.Struct
    symbol: struct.Struct
    symbol_order: tuple[int, ...]
    """Of ``st_name``, ``st_value``, ``st_info`` and ``st_shndx``."""


# By e_ident[EI_CLASS].
_CLASSES = {
    1: ElfClass(
        32,
        struct.Struct("<16xHHIIIIIHHHHHH"),
        struct.Struct("<IIIIIIII"),
        (0, 1, 2, 3, 4, 5),
        struct.Struct("<IIIIIIIIII"),
        struct.Struct("<IIIBBH"),
        (0, 1, 3, 5),
    ),
    2: ElfClass(
        64,
        struct.Struct("<16xHHIQQQIHHHHHH"),
        struct.Struct("<IIQQQQQQ"),
        (0, 2, 3, 4, 5, 6),
        struct.Struct("<IIQQQQIIQQ"),
        struct.Struct("<IBBHQQ"),
        (0, 4, 1, 3),
    ),
}


class ElfError(ValueError):
    """No ELF file, or one that ends too early; the message goes behind the file's name: ``"is not an ELF file"``."""


@dataclass(frozen=True, slots=True)
class ProgramHeader:
    """A segment: ``file_size`` bytes at ``offset`` belong at ``virtual``, in memory at ``physical``."""

    type: int
    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """A section; one of type ``SHT_NOBITS`` has a size and takes no room in the file."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    """For a symbol table, the section that holds its names."""


@dataclass(frozen=True, slots=True)
class Note:
    """One note."""

    name: str
    type: int
    data: bytes


class ElfFile:
    """The headers of an open file, each read when it is asked for.

    :param descriptor: the caller's; it is read with ``pread`` and stays open
    :raises ElfError: if it is no little-endian ELF file; from any method, if the file ends before what is asked for
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        start = os.pread(descriptor, 64, 0)
        if start[:4] != _MAGIC:
            raise ElfError("is not an ELF file")
        if len(start) < 64:
            raise ElfError("is truncated: it is shorter than an ELF header")
        form = _CLASSES.get(start[4])
        if form is None or start[5] != _LITTLE_ENDIAN:
            raise ElfError("is not a little-endian ELF file")
        self.form = form
        fields = form.header.unpack_from(start)
        self.type, self.machine = fields[0], fields[1]
        self._segments_at, self._sections_at = fields[4], fields[5]
        self._segment_size, self._segment_count = fields[8], fields[9]
        self._section_size, self._section_count, self._names_index = fields[10], fields[11], fields[12]

    @cached_property
    def segments(self) -> tuple[ProgramHeader, ...]:
        """The program headers, in order."""
        form, what, count = self.form, "program headers", self._segment_count
        if count == PN_XNUM:
            # Its sh_info; a section header is at one place in both widths but for its tail.
            count = next(
                self._rows(form.section, self._sections_at, 1, self._section_size, "section headers")
            )[7]
        rows = self._rows(form.segment, self._segments_at, count, self._segment_size, what)
        return tuple(ProgramHeader(*(row[at] for at in form.segment_order)) for row in rows)

    @cached_property
    def sections(self) -> tuple[SectionHeader, ...]:
        """The section headers, in order."""
        form, what = self.form, "section headers"
        rows = list(
            self._rows(form.section, self._sections_at, self._section_count, self._section_size, what)
        )
        names = b""
        if self._names_index < len(rows):
            _, _, _, _, offset, size, *_ = rows[self._names_index]
            names = self._part(offset, size, "section names")
        return tuple(SectionHeader(_name(names, name), *rest[:6]) for name, *rest in rows)

    def section(self, name: str) -> SectionHeader | None:
        """The first section of that name."""
        return next((each for each in self.sections if each.name == name), None)

    def content(self, section: SectionHeader) -> bytes:
        """The bytes of a section; none if the file holds none of it."""
        return b"" if section.type == SHT_NOBITS else self._part(section.offset, section.size, section.name)

    def read(self, virtual: int, size: int) -> bytes | None:
        """``size`` bytes at ``virtual``, zeros behind what the file has (``.bss``); ``None`` if no segment has any."""
        for segment in self.segments:
            inside = virtual - segment.virtual
            if segment.type == PT_LOAD and 0 <= inside < segment.file_size:
                length = min(size, segment.file_size - inside)
                return self._part(segment.offset + inside, length, "segments").ljust(size, b"\0")
        return None

    def notes(self) -> Iterator[Note]:
        """The notes of all segments, in order."""
        for segment in self.segments:
            if segment.type == PT_NOTE:
                yield from parse_notes(self._part(segment.offset, segment.file_size, "notes"))

    def nearest_symbol(self, address: int) -> tuple[str, int] | None:
        """The last symbol at or before ``address`` in the section that it lies in, and how many bytes before.

        :param address: as linked: without a KASLR slide, and virtual even where paging is not yet on
        """
        home = next(
            (
                index
                for index, each in enumerate(self.sections)
                if each.flags & SHF_ALLOC and each.address <= address < each.address + each.size
            ),
            None,
        )
        table = next((each for each in self.sections if each.type == SHT_SYMTAB), None)
        if home is None or table is None:
            return None
        if table.link >= len(self.sections):
            raise ElfError(f"has no section {table.link}, which its symbol table names")
        names = self.content(self.sections[table.link])
        best, found = (-1, -1), None
        for name, value, info, index in self._symbols(table):
            kind = info & 15
            if index == home and best < (value, kind) and value <= address and kind <= _STT_FUNC and name:
                best, found = (value, kind), name
        return None if found is None else (_name(names, found), address - best[0])

    def symbols(self) -> Iterator[tuple[str, int]]:
        """Name and address of every defined symbol; of several of one name the last is a variable, if any is."""
        table = next((each for each in self.sections if each.type == SHT_SYMTAB), None)
        if table is None or table.link >= len(self.sections):
            return
        names = self.content(self.sections[table.link])
        rows = [row for row in self._symbols(table) if row[3] and row[2] & 15 <= _STT_FUNC and row[0]]
        for name, value, _info, _index in sorted(rows, key=lambda row: row[2] & 15 == _STT_OBJECT):
            yield _name(names, name), value

    def _symbols(self, table: SectionHeader) -> Iterator[tuple[int, int, int, int]]:
        row, (name, value, info, index) = self.form.symbol, self.form.symbol_order
        data = self.content(table)
        for fields in row.iter_unpack(data[: len(data) - len(data) % row.size]):
            yield fields[name], fields[value], fields[info], fields[index]

    def _rows(
        self, row: struct.Struct, offset: int, count: int, size: int, what: str
    ) -> Iterator[tuple[int, ...]]:
        """The rows of a table of headers, each ``size`` bytes by the file's own word."""
        if count and size != row.size:
            raise ElfError(f"has {what} of {size} bytes, not {row.size}")
        return row.iter_unpack(self._part(offset, count * row.size, what))

    def _part(self, offset: int, size: int, what: str) -> bytes:
        """Bytes of the file; no header makes us ask for more than there is."""
        if offset + size > self.size:
            raise ElfError(f"is cut off inside its {what}")
        return os.pread(self._descriptor, size, offset)


def parse_notes(data: bytes) -> Iterator[Note]:
    """The notes of one segment or section, each part padded to 4 bytes in both widths.

    :raises ElfError: if ``data`` ends too early
    """
    at = 0
    while at + _NOTE.size <= len(data):
        name_size, size, type_ = _NOTE.unpack_from(data, at)
        at += _NOTE.size
        name = data[at : at + name_size].rstrip(b"\0").decode("ascii", "replace")
        at += (name_size + 3) & ~3
        if at + size > len(data):
            raise ElfError(f"has damaged notes: note {name} is cut off")
        yield Note(name, type_, bytes(data[at : at + size]))
        at += (size + 3) & ~3


def _name(names: bytes, at: int) -> str:
    return names[at : names.find(b"\0", at) % (len(names) + 1)].decode("ascii", "replace")


def vmcoreinfo_among(notes: Iterable[Note]) -> str | None:
    """The text of the kernel's VMCOREINFO; None if there is none."""
    for note in notes:
        if note.name == "VMCOREINFO":
            return note.data.rstrip(b"\0").decode("ascii", "replace")
    return None


def build_id_among(notes: Iterator[Note]) -> str | None:
    """The GNU build id among notes, in hex."""
    for note in notes:
        if note.name == "GNU" and note.type == NT_GNU_BUILD_ID:
            return note.data.hex()
    return None

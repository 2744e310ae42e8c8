"""As much of ELF as a vmcore needs: program headers and notes, 32 and 64 bits wide, little-endian.

pyelftools knows all of ELF but takes longer to import than we take to open a core.  Source: System V ABI,
chapter 5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PT_LOAD = 1
PT_NOTE = 4
ET_CORE = 4
EM_386 = 3


@dataclass(frozen=True, slots=True)
class ElfClass:
    """Where the fields lie that we read; ``phdr`` picks them from a program header in the order of
    :class:`Phdr`."""

    ehdr: struct.Struct
    phdr: struct.Struct
    phdr_order: tuple[int, ...]


# By e_ident[EI_CLASS].  Elf32_Phdr and Elf64_Phdr differ in the order of their fields.
FORMS = {
    1: ElfClass(struct.Struct("<16xHHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"), (0, 1, 3, 4)),
    2: ElfClass(struct.Struct("<16xHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), (0, 2, 4, 5)),
}


@dataclass(frozen=True, slots=True)
class Ehdr:
    """The fields of the ELF header that count here."""

    form: ElfClass
    type: int
    machine: int
    phoff: int
    phnum: int


@dataclass(frozen=True, slots=True)
class Phdr:
    """One program header: ``size`` bytes of the file at ``offset``, for physical address ``paddr``."""

    type: int
    offset: int
    paddr: int
    size: int


@dataclass(frozen=True, slots=True)
class Note:
    """One note of a ``PT_NOTE`` segment."""

    name: str
    type: int
    data: bytes


def ehdr(data: bytes) -> Ehdr | None:
    """The header at the start of a file; None if it is no little-endian ELF file."""
    if data[:4] != b"\x7fELF" or len(data) < 64 or data[4] not in FORMS or data[5] != 1:
        return None
    form = FORMS[data[4]]
    type_, machine, _version, _entry, phoff, _shoff, _flags, _ehsize, _phentsize, phnum, *_ = (
        form.ehdr.unpack_from(data)
    )
    return Ehdr(form, type_, machine, phoff, phnum)


def phdrs(header: Ehdr, data: bytes) -> tuple[Phdr, ...]:
    """The program headers; ``data`` is the file from ``header.phoff`` on.

    :raises struct.error: if ``data`` ends too early
    """
    form = header.form
    fields = (form.phdr.unpack_from(data, i * form.phdr.size) for i in range(header.phnum))
    return tuple(Phdr(*(values[i] for i in form.phdr_order)) for values in fields)


def notes(data: bytes) -> Iterator[Note]:
    """The notes of one segment: 4-byte aligned in both widths.

    :raises struct.error: if ``data`` ends too early
    """
    at = 0
    while at + 12 <= len(data):
        name_size, size, type_ = struct.unpack_from("<III", data, at)
        at += 12
        name = data[at : at + name_size].rstrip(b"\0").decode("ascii", "replace")
        at += (name_size + 3) & ~3
        if at + size > len(data):
            raise struct.error(f"note {name} is cut off")
        yield Note(name, type_, bytes(data[at : at + size]))
        at += (size + 3) & ~3

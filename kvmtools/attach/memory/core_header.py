"""The head of an ELF core: header, program headers and notes, as QEMU's and the kernel's own dumps have them.

ELF32 as long as every address fits, else ELF64 with the same ``EM_386``: so QEMU does it (``cpu_get_dump_info``,
target/i386/arch_dump.c), and gdb, drgn and readelf take both.  A core of more than 65,534 pieces says so in a section
header (``PN_XNUM``, System V ABI, chapter 4).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from kvmtools.attach.elf import EM_386, ET_CORE, PN_XNUM, PT_LOAD, PT_NOTE, Note
from kvmtools.attach.memory.physical import FOUR_GIB
from kvmtools.records import PAGE_SIZE

_READ_WRITE = 6
_NOTE = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Load:
    """``size`` bytes that lie at ``offset`` behind the head.

    ``virtual`` is ``None`` where the kernel maps them nowhere: the program header then says -1, as kexec-tools' do.
    """

    virtual: int | None
    physical: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Form:
    """A width's structures; ``segment`` gets type, flags, offset, virtual, physical, size and alignment."""

    number: int
    header: struct.Struct
    segment: struct.Struct
    section: struct.Struct
    flags_last: bool

    def pack_segment(self, kind: int, offset: int, virtual: int, physical: int, size: int) -> bytes:
        # Alignment 1 is none: a page that begins anywhere in the file may be mapped anywhere.
        places = (offset, virtual, physical, size, size)
        flags = _READ_WRITE if kind == PT_LOAD else 0
        if self.flags_last:
            return self.segment.pack(kind, *places, flags, 1)
        return self.segment.pack(kind, flags, *places, 1)


_ELF32 = _Form(
    1, struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"), struct.Struct("<IIIIIIIIII"), True
)
_ELF64 = _Form(
    2, struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<IIQQQQIIQQ"), False
)


def core_head(loads: Sequence[Load], notes: Sequence[Note]) -> bytes:
    """All that stands before the memory of a core, filled up to a whole page."""
    told = b"".join(map(_packed, notes))
    form = _ELF32 if _fits(loads, len(told)) else _ELF64
    count, many = len(loads) + 1, len(loads) + 1 >= PN_XNUM
    sections_at = form.header.size
    segments_at = sections_at + many * form.section.size
    notes_at = segments_at + count * form.segment.size
    size = -(-(notes_at + len(told)) // PAGE_SIZE) * PAGE_SIZE
    header = form.header.pack(
        b"\x7fELF" + bytes([form.number, 1, 1]).ljust(12, b"\0"),
        ET_CORE,
        EM_386,
        1,
        0,
        segments_at,
        sections_at if many else 0,
        0,
        form.header.size,
        form.segment.size,
        PN_XNUM if many else count,
        form.section.size if many else 0,
        int(many),
        0,
    )
    pieces = [header]
    if many:
        pieces.append(form.section.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0))
    pieces.append(form.pack_segment(PT_NOTE, notes_at, 0, 0, len(told)))
    nowhere = FOUR_GIB - 1 if form is _ELF32 else (1 << 64) - 1
    for load in loads:
        virtual = nowhere if load.virtual is None else load.virtual
        pieces.append(form.pack_segment(PT_LOAD, size + load.offset, virtual, load.physical, load.size))
    return b"".join((*pieces, told)).ljust(size, b"\0")


def _fits(loads: Sequence[Load], notes: int) -> bool:
    """Whether 32 bits are enough for every number of the file."""
    head = notes + (len(loads) + 3) * _ELF64.segment.size + 2 * PAGE_SIZE
    return all(
        load.physical + load.size <= FOUR_GIB and head + load.offset + load.size < FOUR_GIB for load in loads
    )


def _packed(note: Note) -> bytes:
    name = note.name.encode() + b"\0"
    return (
        _NOTE.pack(len(name), len(note.data), note.type)
        + name.ljust(-(-len(name) // 4) * 4, b"\0")
        + note.data.ljust(-(-len(note.data) // 4) * 4, b"\0")
    )

"""A small ELF file made by hand, both as a vmlinux and as a core, and where each field of its headers stands.

The layouts are written down anew from elf.h: ``Elf32_Ehdr``, ``Elf64_Phdr`` and so on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

BASE, PHYSICAL = 0xC100_0000, 0x100_0000
BANNER = b"Linux version 9.9 (of a test)\n\0"
_SIZES = {"B": 1, "H": 2, "I": 4, "Q": 8}

_EHDR = {
    32: "e_type:H e_machine:H e_version:I e_entry:I e_phoff:I e_shoff:I e_flags:I",
    64: "e_type:H e_machine:H e_version:I e_entry:Q e_phoff:Q e_shoff:Q e_flags:I",
}
_EHDR_TAIL = " e_ehsize:H e_phentsize:H e_phnum:H e_shentsize:H e_shnum:H e_shstrndx:H"
_PHDR = {
    32: "p_type:I p_offset:I p_vaddr:I p_paddr:I p_filesz:I p_memsz:I p_flags:I p_align:I",
    64: "p_type:I p_flags:I p_offset:Q p_vaddr:Q p_paddr:Q p_filesz:Q p_memsz:Q p_align:Q",
}
_SHDR = {
    32: "sh_name:I sh_type:I sh_flags:I sh_addr:I sh_offset:I sh_size:I",
    64: "sh_name:I sh_type:I sh_flags:Q sh_addr:Q sh_offset:Q sh_size:Q",
}
_SHDR_TAIL = {
    32: " sh_link:I sh_info:I sh_addralign:I sh_entsize:I",
    64: " sh_link:I sh_info:I sh_addralign:Q sh_entsize:Q",
}
_SYM = {
    32: "st_name:I st_value:I st_size:I st_info:B st_other:B st_shndx:H",
    64: "st_name:I st_info:B st_other:B st_shndx:H st_value:Q st_size:Q",
}
_NHDR = "n_namesz:I n_descsz:I n_type:I"
_IDENT = "EI_CLASS:B EI_DATA:B EI_VERSION:B"


@dataclass(frozen=True)
class Place:
    """Where a field stands, and its format in :mod:`struct`."""

    offset: int
    kind: str

    @property
    def largest(self) -> int:
        return (1 << 8 * _SIZES[self.kind]) - 1


@dataclass
class SmallElf:
    """The file's bytes, and its fields by name: ``"segment 0 p_offset"``."""

    bits: int
    data: bytearray = field(default_factory=bytearray)
    places: dict[str, Place] = field(default_factory=dict)

    def add(self, what: str, layout: str, **values: int) -> int:
        """A structure at the end; fields that are not named are 0.  Returns where it begins."""
        start = len(self.data)
        for each in layout.split():
            name, kind = each.split(":")
            self.places[f"{what} {name}"] = Place(len(self.data), kind)
            self.data += struct.pack("<" + kind, values.pop(name, 0))
        assert not values
        return start

    def put(self, what: str, value: int) -> None:
        place = self.places[what]
        struct.pack_into("<" + place.kind, self.data, place.offset, value)

    def get(self, what: str) -> int:
        place = self.places[what]
        value: int = struct.unpack_from("<" + place.kind, self.data, place.offset)[0]
        return value

    def changed(self, what: str, value: int) -> bytes:
        """The file with one field different."""
        copy = SmallElf(self.bits, bytearray(self.data), self.places)
        copy.put(what, value)
        return bytes(copy.data)


def _start(bits: int, type_: int, machine: int) -> SmallElf:
    elf = SmallElf(bits, bytearray(b"\x7fELF"))
    elf.add("ident", _IDENT, EI_CLASS=bits // 32, EI_DATA=1, EI_VERSION=1)
    elf.data += bytes(16 - len(elf.data))
    elf.add("header", _EHDR[bits] + _EHDR_TAIL, e_type=type_, e_machine=machine, e_version=1)
    elf.put("header e_ehsize", len(elf.data))
    return elf


def _content(elf: SmallElf, data: bytes) -> tuple[int, int]:
    elf.data += bytes(-len(elf.data) % 8)
    start = len(elf.data)
    elf.data += data
    return start, len(data)


def _note(elf: SmallElf, name: bytes, type_: int, data: bytes) -> tuple[int, int]:
    elf.data += bytes(-len(elf.data) % 8)
    start = elf.add("note", _NHDR, n_namesz=len(name), n_descsz=len(data), n_type=type_)
    for part in (name, data):
        elf.data += part + bytes(-len(part) % 4)
    return start, len(elf.data) - start


def _segments(elf: SmallElf, rows: list[dict[str, int]]) -> None:
    start = len(elf.data)
    elf.put("header e_phoff", start)
    elf.put("header e_phnum", len(rows))
    for index, row in enumerate(rows):
        elf.add(f"segment {index}", _PHDR[elf.bits], **row)
    elf.put("header e_phentsize", (len(elf.data) - start) // len(rows))


def _sections(elf: SmallElf, rows: list[dict[str, int]]) -> None:
    start = len(elf.data)
    elf.put("header e_shoff", start)
    elf.put("header e_shnum", len(rows))
    for index, row in enumerate(rows):
        elf.add(f"section {index}", _SHDR[elf.bits] + _SHDR_TAIL[elf.bits], **row)
    elf.put("header e_shentsize", (len(elf.data) - start) // len(rows))


def vmlinux(bits: int = 32) -> SmallElf:
    """A linked image with a banner in ``.rodata``, one function, a build id and an empty ``.debug_info``."""
    elf = _start(bits, 2, {32: 3, 64: 62}[bits])
    rodata = _content(elf, BANNER + bytes(64))
    note = _note(elf, b"GNU\0", 3, bytes(range(20)))
    names = _content(elf, b"\0.rodata\0.symtab\0.strtab\0.shstrtab\0.debug_info\0")
    strings = _content(elf, b"\0linux_banner\0behind\0")
    elf.data += bytes(-len(elf.data) % 8)
    symbols = len(elf.data)
    elf.add("symbol 0", _SYM[bits])
    elf.add("symbol 1", _SYM[bits], st_name=1, st_value=BASE, st_info=1, st_shndx=1, st_size=len(BANNER))
    elf.add("symbol 2", _SYM[bits], st_name=14, st_value=BASE + 64, st_info=1, st_shndx=1)
    table = (symbols, len(elf.data) - symbols)
    addresses = {"p_vaddr": BASE, "p_paddr": PHYSICAL}
    _segments(
        elf,
        [
            {"p_type": 1, "p_offset": rodata[0], **addresses, "p_filesz": rodata[1], "p_memsz": rodata[1] + 64},
            {"p_type": 4, "p_offset": note[0], "p_filesz": note[1], "p_memsz": note[1]},
        ],
    )  # fmt: skip
    _sections(
        elf,
        [
            {},
            {"sh_name": 1, "sh_type": 1, "sh_flags": 2, "sh_addr": BASE, "sh_offset": rodata[0], "sh_size": rodata[1]},
            {"sh_name": 9, "sh_type": 2, "sh_offset": table[0], "sh_size": table[1], "sh_link": 3, "sh_entsize": 16},
            {"sh_name": 17, "sh_type": 3, "sh_offset": strings[0], "sh_size": strings[1]},
            {"sh_name": 25, "sh_type": 3, "sh_offset": names[0], "sh_size": names[1]},
            {"sh_name": 35, "sh_type": 1, "sh_offset": names[0], "sh_size": 0},
        ],
    )  # fmt: skip
    elf.put("header e_shstrndx", 4)
    return elf


def core(bits: int = 32) -> SmallElf:
    """Two pieces of RAM and a note about one vCPU."""
    elf = _start(bits, 4, 3)
    low, high = _content(elf, b"low!" * 64), _content(elf, b"high" * 64)
    state = struct.pack(
        "<II16QQQ232xQ5Q", 1, 424, *range(16), BASE, 0, 0xFFC0_0000, 0x8005_0033, 0, 0, 0x1000, 0x10
    )
    note = _note(elf, b"QEMU\0", 0, state)
    _segments(
        elf,
        [
            {"p_type": 4, "p_offset": note[0], "p_filesz": note[1], "p_memsz": note[1]},
            {"p_type": 1, "p_offset": low[0], "p_paddr": 0, "p_filesz": low[1], "p_memsz": low[1]},
            {"p_type": 1, "p_offset": high[0], "p_paddr": 0x400, "p_filesz": high[1], "p_memsz": high[1]},
        ],
    )  # fmt: skip
    return elf

"""ELF cores as QEMU writes them, of whatever a test puts there."""

from __future__ import annotations

import struct
from pathlib import Path


class CoreFile:
    """Makes ELF cores as QEMU does: header, program headers, notes, loads; 32 or 64 bits wide."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loads: list[tuple[int, bytes]] = []
        self.notes: list[tuple[str, int, bytes]] = []
        self.bits = 64
        self.type = 4
        self.machine = 3

    def qemu_note(self, *, rip: int, cr0: int, cr3: int, cr4: int, idt: int = 0, version: int = 1) -> None:
        registers = [0] * 16 + [rip, 0x246]
        state = struct.pack("<II18Q232xQ5QQ", version, 0x1B8, *registers, idt, cr0, 0, 0, cr3, cr4, 0)
        self.notes.append(("QEMU", 0, state))

    def write(self) -> Path:
        ehdr = struct.Struct("<16sHHIQQQIHHHHHH" if self.bits == 64 else "<16sHHIIIIIHHHHHH")
        size = 56 if self.bits == 64 else 32
        start = ehdr.size + size * (1 + len(self.loads))
        notes = b"".join(self._note(*note) for note in self.notes)
        ident = b"\x7fELF" + bytes([2 if self.bits == 64 else 1, 1, 1]) + bytes(9)
        count = 1 + len(self.loads)
        data = ehdr.pack(
            ident, self.type, self.machine, 1, 0, ehdr.size, 0, 0, ehdr.size, size, count, 0, 0, 0
        )
        data += self._phdr(4, start, 0, len(notes))
        at = start + len(notes)
        for address, block in self.loads:
            data += self._phdr(1, at, address, len(block))
            at += len(block)
        self.path.write_bytes(data + notes + b"".join(block for _, block in self.loads))
        return self.path

    def _phdr(self, kind: int, offset: int, paddr: int, size: int) -> bytes:
        if self.bits == 64:
            return struct.pack("<IIQQQQQQ", kind, 0, offset, 0, paddr, size, size, 0)
        return struct.pack("<IIIIIIII", kind, offset, 0, paddr, size, size, 0, 0)

    def _note(self, name: str, kind: int, data: bytes) -> bytes:
        label = name.encode() + b"\0"
        return struct.pack("<III", len(label), len(data), kind) + _padded(label) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

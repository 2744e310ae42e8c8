"""A guest's memory in an ELF core: as QMP ``dump-guest-memory`` wrote it, or ``kvmtools snapshot``.

ELF32, or ELF64 if there is RAM above 4 GiB (``dump_init``, QEMU dump/dump.c).  Besides memory it holds, per
vCPU, a note named ``QEMU`` with the control registers, and the kernel's own VMCOREINFO if the guest had
``-device vmcoreinfo``.  In one of ours, a note named ``KVMTOOLS`` says the rest (:mod:`kvmtools.attach.recording`), and
memory that nobody needed is missing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvmtools.attach.elf import (
    EM_386,
    ET_CORE,
    MACHINES,
    PT_LOAD,
    ElfError,
    ElfFile,
    Note,
    ProgramHeader,
    vmcoreinfo_among,
)
from kvmtools.attach.general_registers import NT_PRSTATUS, GeneralRegisters, from_prstatus
from kvmtools.attach.memory import zstd
from kvmtools.attach.memory.file_memory import FileMemory, closed_on_failure, opened_core
from kvmtools.attach.memory.physical import Segment
from kvmtools.attach.memory.system_ram import system_ram
from kvmtools.attach.recording import NOTE_NAME, NOTE_TYPE, Recording, parse
from kvmtools.errors import AttachError
from kvmtools.records import Range, Registers

_AS_ELF = (
    'write it as ELF: virsh dump --memory-only, or QMP dump-guest-memory with "paging": false and no "format"'
)
_SAVED = (b"QEVM", b"LibvirtQemud")
"""What a machine that was saved to be run again begins with: QEMU's own form, and ``virsh save``'s around it."""
# QEMUCPUState (QEMU target/i386/arch_dump.c): version, size, 18 general registers of which rip is the 17th,
# ten segments of 24 bytes (the IDT is the last, its base the last 8 of them), cr[5].  EFER is not in it.
_CPU_STATE = struct.Struct("<II16QQQ232xQ5Q")
_CPU_STATE_VERSION = 1


class ElfCore(FileMemory):
    """:class:`PhysicalMemory` over a core file; segment offsets are file offsets.

    A file that Zstandard compressed is decompressed first.

    :ivar recording: what ``kvmtools snapshot`` wrote beside the memory; ``None`` in other cores
    :raises AttachError: if the file is not a complete ELF core of an i386 guest
    """

    name = "elf-core"

    def __init__(self, path: Path) -> None:
        descriptor = _decompressed(opened_core(path), path)
        with closed_on_failure(descriptor, f"the core {path}"):
            try:
                core = _open(path, descriptor)
                self.notes = tuple(core.notes())
                self.recording = _recording(self.notes, path)
                loads = [load for load in core.segments if load.type == PT_LOAD and load.file_size]
                segments = list(_recorded(loads) if self.recording else map(_segment, loads))
                if any(note.name == "QEMU" for note in self.notes):
                    segments = list(system_ram(segments))
            except ElfError as error:
                raise AttachError(f"{path} {error}", hint=_AS_ELF) from error
            if not segments:
                raise AttachError(f"{path} holds no memory", hint=_AS_ELF)
            super().__init__(descriptor, segments, () if self.recording is None else self.recording.ram)

    @property
    def captured(self) -> tuple[Range, ...]:
        """The RAM that is in the file."""
        return self.segments.captured

    def registers(self) -> tuple[Registers, ...]:
        """One record per vCPU; empty if QEMU left no notes about them.

        :raises AttachError: if the notes are of a version that we do not know
        """
        if self.recording is not None:
            return self.recording.registers
        states = [note.data for note in self.notes if note.name == "QEMU"]
        return tuple(_registers(cpu, state) for cpu, state in enumerate(states))

    def general_registers(self) -> tuple[GeneralRegisters, ...]:
        """One record per vCPU, in the same order; empty if there are none of an i386 machine."""
        found = [
            from_prstatus(note.data) for note in self.notes if (note.name, note.type) == ("CORE", NT_PRSTATUS)
        ]
        return tuple(each for each in found if each is not None)

    def vmcoreinfo(self) -> str | None:
        """The text of the kernel's VMCOREINFO note; None if the core has none."""
        return vmcoreinfo_among(self.notes)


def _decompressed(descriptor: int, path: Path) -> int:
    """The file, or what is compressed in it: the same descriptor, or one in its place."""
    with closed_on_failure(descriptor, f"the core {path}"):
        if os.pread(descriptor, len(zstd.MAGIC), 0) != zstd.MAGIC:
            return descriptor
        with os.fdopen(os.dup(descriptor), "rb") as file, zstd.decompressed(file, path) as whole:
            plain = os.dup(whole.fileno())
    os.close(descriptor)
    return plain


def _recording(notes: Iterable[Note], path: Path) -> Recording | None:
    for note in notes:
        if (note.name, note.type) == (NOTE_NAME, NOTE_TYPE):
            try:
                return parse(note.data)
            except AttachError as error:
                raise AttachError(f"{path} {error.message}", hint=error.hint) from None
    return None


def _open(path: Path, descriptor: int) -> ElfFile:
    """The file, if it is a whole core of a guest that we know."""
    if os.pread(descriptor, 16, 0).startswith(_SAVED):
        raise AttachError(f"{path} is a saved QEMU machine, not an ELF core", hint=_AS_ELF)
    core = ElfFile(descriptor)
    if core.type != ET_CORE:
        raise AttachError(f"{path} is an ELF file, but not a core", hint="a vmlinux belongs to -s")
    if core.machine != EM_386:
        raise AttachError(
            f"{path} is a core of {MACHINES.get(core.machine, f'ELF machine {core.machine}')}, not of an i386 guest",
            hint="only 32-bit guests can be looked at",
        )
    needed = max((each.offset + each.file_size for each in core.segments), default=0)
    if core.size < needed:
        raise AttachError(
            f"{path} is truncated: it has {core.size:#x} bytes of {needed:#x}",
            hint="was the disk full? dump it again",
        )
    return core


def _segment(load: ProgramHeader) -> Segment:
    return Segment(load.physical, load.physical + load.file_size, load.offset)


def _recorded(loads: Iterable[ProgramHeader]) -> Iterator[Segment]:
    """Every load of a recording once: one that is mapped at several virtual addresses has a header for each."""
    end = 0
    for load in sorted(loads, key=lambda h: (h.physical, -h.file_size)):
        if load.physical + load.file_size <= end:
            continue
        end = load.physical + load.file_size
        yield Segment(load.physical, end, load.offset)


def _registers(cpu: int, state: bytes) -> Registers:
    version = int.from_bytes(state[:4], "little")
    if len(state) < _CPU_STATE.size or version != _CPU_STATE_VERSION:
        raise AttachError(f"the core's register note of vCPU {cpu} has the unknown version {version}")
    values = _CPU_STATE.unpack_from(state)
    rip = values[2 + 16]
    idt, cr0, _, _, cr3, cr4 = values[-6:]
    return Registers(cpu=cpu, eip=rip, cr0=cr0, cr3=cr3, cr4=cr4, efer=None, idt=idt)

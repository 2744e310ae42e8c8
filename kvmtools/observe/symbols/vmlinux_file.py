"""The few things about a kernel file that can be had without drgn: is it one of ours, its build id, its load address.

These are asked on every start, so they are read from the ELF headers alone; a warm command never reads more of a file
that is not packed.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kvmtools.attach.elf import (
    ET_CORE,
    MACHINES,
    PT_LOAD,
    SHF_ALLOC,
    SHT_PROGBITS,
    ElfError,
    ElfFile,
    build_id_among,
)
from kvmtools.errors import SymbolsError
from kvmtools.observe.architecture import ARCHITECTURES
from kvmtools.observe.symbols.compressed import unpacked

_WANTED = "give the vmlinux or vmlinuz of the guest's i386 kernel"
_DWARF = (".debug_info", ".zdebug_info")
_RELEASE = rb"Linux version (\d[^\s\0]*) "


#: Begin the names of what the build makes for itself: nobody asks for them.
_NOBODYS = (
    *(".L", "__ksymtab", "__kstrtab", "__crc_", "__pfx_", "__initcall", "__setup_", "__UNIQUE_ID"),
    *("__func__", "__already_done", "__warned", "__compound_literal", "__key.", "__print_once", "__msg."),
    *("__event_", "__tracepoint_", "__tpstrtab", "__bpf_", "event_", "str__", "symbols.", "CSWTCH"),
)


class Identity(NamedTuple):
    """What tells one kernel from others."""

    build_id: str | None
    """In hex; ``None`` if the linker gave it none, or it is not found."""
    release: str | None
    """As ``uname -r`` says it."""
    banner: str = ""
    """All of ``linux_banner``, where that is what was found."""


@dataclass(frozen=True)
class VmlinuxFile:
    """A linked kernel for i386: whole, stripped, or only what debugs it (``objcopy --only-keep-debug``)."""

    path: Path
    """As the person named it."""
    readable: Path
    """Where drgn and gdb read it: somewhere else if ``path`` is packed, for as long as this object lives."""
    build_id: str
    """GNU build id in hex, or ``sha256-`` and a digest of the whole file where it has none."""
    page_offset: int
    """``PAGE_OFFSET``: the kernel is linked so that every address is its load address plus this (vmlinux.lds.S)."""
    has_image: bool
    """Whether it holds the kernel's code and data."""
    has_dwarf: bool

    @property
    def gnu_build_id(self) -> str | None:
        """The build id, if the linker gave it one."""
        return None if self.build_id.startswith("sha256-") else self.build_id

    def read(self, virtual: int, size: int) -> bytes:
        """Bytes of the image that belong at ``virtual``; what the file does not hold (``.bss``) is zero.

        :raises SymbolsError: if no segment covers the address
        """
        with _opened(self.readable) as (elf, _inner):
            data = elf.read(virtual, size)
        if data is None:
            raise SymbolsError(f"{self.path} holds nothing at {virtual:#x}")
        return data

    def release(self) -> str | None:
        """What ``uname -r`` says in this kernel; ``None`` if the file does not tell."""
        if not self.has_image:
            return None
        import mmap

        with self.readable.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as image:
            found = re.search(_RELEASE, image)
            return found[1].decode("latin-1") if found else None


def symbols_in(path: Path) -> Iterator[tuple[str, int]]:
    """Name and address of each variable, function and label in the symbol table, if the file has one; of several of
    one name, the one to be taken is the last.  What the build made for itself is left out.

    :raises SymbolsError: if it is no whole ELF file
    """
    with _opened(path) as (elf, _inner):
        yield from ((name, value) for name, value in elf.symbols() if not name.startswith(_NOBODYS))


def read_vmlinux(path: Path) -> VmlinuxFile:
    """Read the headers of ``path``.

    :raises SymbolsError: if the file cannot be read, or neither is nor holds a linked kernel for i386
    """
    with _opened(path) as (elf, inner):
        if all((elf.form.bits, elf.machine) != (row.word_bits, row.elf_machine) for row in ARCHITECTURES):
            name = MACHINES.get(elf.machine, f"machine {elf.machine}")
            raise SymbolsError(f"{path} is for {name}, not i386", hint=_WANTED)
        if elf.type == ET_CORE:
            raise SymbolsError(f"{path} is a core, not a kernel", hint=_WANTED)
        loads = [segment for segment in elf.segments if segment.type == PT_LOAD]
        if not loads:
            raise SymbolsError(f"{path} is not linked: it has nothing to load", hint=_WANTED)
        sections = elf.sections
        code = (each for each in sections if each.type == SHT_PROGBITS and each.flags & SHF_ALLOC)
        kept = None if inner is None else os.dup(inner)
        found = VmlinuxFile(
            path,
            path if kept is None else Path(f"/proc/{os.getpid()}/fd/{kept}"),
            build_id_among(elf.notes()) or _digest(path),
            loads[0].virtual - loads[0].physical,
            has_image=not sections or any(code),
            has_dwarf=any(each.name in _DWARF for each in sections),
        )
        if kept is not None:
            weakref.finalize(found, os.close, kept)
        return found


def build_id_of(path: Path) -> str | None:
    """The GNU build id of any ELF file; ``None`` if it has none, or cannot be read."""
    try:
        with _opened(path) as (elf, _inner):
            return build_id_among(elf.notes())
    except SymbolsError:
        return None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ElfFile, int | None]]:
    """The file for the length of a ``with``, and if it was packed, the descriptor of what was inside.

    :raises SymbolsError: if it cannot be read, or is no whole ELF file
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            inner = unpacked(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if inner is not None:
            os.close(descriptor)
            descriptor = inner
        try:
            yield ElfFile(descriptor), inner
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SymbolsError(f"cannot read vmlinux {path}: {reason}", hint=_WANTED) from error
    except ElfError as error:
        raise SymbolsError(f"{path} {error}", hint=_WANTED) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256-" + hashlib.file_digest(file, "sha256").hexdigest()

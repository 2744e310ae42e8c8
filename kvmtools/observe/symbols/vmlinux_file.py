"""The few things about a vmlinux that can be had without drgn: is it one of ours, its build id, its load address.

These are asked on every start, so they are read from the ELF headers alone; a warm command never reads more of the
file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvmtools.attach.elf import (
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

_HOW_TO_GET_DWARF = (
    "build it with CONFIG_DEBUG_INFO_DWARF5=y, or install the distribution's kernel debug package, "
    "and give the vmlinux that was not stripped"
)
_WANTED = "give the unstripped i386 vmlinux of the guest's kernel (not bzImage)"


@dataclass(frozen=True)
class VmlinuxFile:
    """An i386 ELF executable."""

    path: Path
    build_id: str
    """GNU build id in hex, or ``sha256-`` and a digest of the whole file where it has none."""
    page_offset: int
    """``PAGE_OFFSET``: the kernel is linked so that every address is its load address plus this (vmlinux.lds.S)."""

    def read(self, virtual: int, size: int) -> bytes:
        """Bytes of the file that belong at ``virtual``; what the file does not hold (``.bss``) is zero.

        :raises SymbolsError: if no segment covers the address
        """
        with _opened(self.path) as elf:
            data = elf.read(virtual, size)
        if data is None:
            raise SymbolsError(f"{self.path} holds nothing at {virtual:#x}")
        return data


def read_vmlinux(path: Path) -> VmlinuxFile:
    """Read the headers of ``path``.

    :raises SymbolsError: if the file cannot be read, is not an ELF executable for i386, or has no DWARF
    """
    with _opened(path) as elf:
        if all((elf.form.bits, elf.machine) != (row.word_bits, row.elf_machine) for row in ARCHITECTURES):
            name = MACHINES.get(elf.machine, f"machine {elf.machine}")
            raise SymbolsError(f"{path} is for {name}, not i386", hint=_WANTED)
        loads = [segment for segment in elf.segments if segment.type == PT_LOAD]
        if not loads:
            raise SymbolsError(f"{path} is not linked: it has nothing to load", hint=_WANTED)
        _demand_both_halves(path, elf)
        return VmlinuxFile(
            path,
            build_id_among(elf.notes()) or _digest(path),
            loads[0].virtual - loads[0].physical,
        )


def _demand_both_halves(path: Path, elf: ElfFile) -> None:
    """A vmlinux may have been split into what runs (``strip``) and what debugs (``objcopy --only-keep-debug``).

    :raises SymbolsError: if one of them is missing
    """
    if elf.sections and not any(
        each.type == SHT_PROGBITS and each.flags & SHF_ALLOC for each in elf.sections
    ):
        raise SymbolsError(
            f"{path} is the debugging half of a vmlinux (objcopy --only-keep-debug): its code and data are elsewhere",
            hint=f"give the vmlinux that was not split, or join both: eu-unstrip VMLINUX {path} -o WHOLE",
        )
    if elf.section(".debug_info") or elf.section(".zdebug_info"):
        return
    link = elf.section(".gnu_debuglink")
    if link is not None:
        name = elf.content(link).partition(b"\0")[0].decode("utf-8", "replace")
        raise SymbolsError(
            f"{path} was stripped: its DWARF is in {name!r}",
            hint=f"give the vmlinux that was not split, or join both: eu-unstrip {path} {name} -o WHOLE",
        )
    was = (
        "has no DWARF (.debug_info)"
        if elf.section(".symtab")
        else "was stripped: it has neither symbols nor DWARF"
    )
    raise SymbolsError(f"{path} {was}", hint=_HOW_TO_GET_DWARF)


@contextmanager
def _opened(path: Path) -> Iterator[ElfFile]:
    """The file for the length of a ``with``.

    :raises SymbolsError: if it cannot be read, or is no whole ELF file
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield ElfFile(descriptor)
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

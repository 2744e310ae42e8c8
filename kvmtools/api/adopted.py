"""The guest behind a drgn program that somebody else opened: drgn's own command line, or a script.

drgn reads an i386 guest's physical memory with addresses of 32 bits, and its virtual memory not at all.  So the same
QEMU or the same core is opened once more by us, and the program reads through that.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import drgn

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session
from kvmtools.attach.elf import ET_CORE, PT_LOAD, ElfError, ElfFile, build_id_among
from kvmtools.errors import AttachError, KvmtoolsError, SymbolsError, UsageError
from kvmtools.observe.architecture import I386
from kvmtools.observe.noted import NotedKernel, noted_kernel, notes_in_memory
from kvmtools.observe.program import OURS, add_memory, refuse_memory
from kvmtools.records import Range

if TYPE_CHECKING:
    from kvmtools.attach.target import Target


@dataclass
class AdoptedProgram:
    """What is known of the guest; its kernel, once there is a vmlinux."""

    target: Target
    noted: NotedKernel
    vmcoreinfo: str
    _kernels: list[OpenKernel] = field(default_factory=list)

    @cached_property
    def build_id(self) -> str | None:
        """The kernel's, in hex: as it notes it, or of a kernel before 5.9 what lies near its banner."""
        from kvmtools.observe.symbols.in_memory import kernels_in

        if self.noted.build_id is not None:
            return self.noted.build_id
        found = kernels_in(self.target.memory, None)
        return next((each.build_id for each in found if each.release == self.noted.release), None)

    def may_be_vmlinux(self, path: Path) -> bool:
        """Whether a file looks like this kernel's: by its headers, and the build id if the kernel notes one."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            elf = ElfFile(descriptor)
            if elf.machine != I386.elf_machine or elf.type == ET_CORE:
                return False
            return self.noted.build_id in (None, build_id_among(elf.notes()))
        except ElfError:
            return False
        finally:
            os.close(descriptor)

    def use(self, path: Path) -> tuple[tuple[Path, ...], Range, int]:
        """Take a vmlinux for the guest's: the files to read (image and DWARF may be two), where its image lies now
        (virtual), and what KASLR added to its addresses.

        :raises SymbolsError: if it is not the guest's, or has no DWARF
        """
        from kvmtools.observe.kernel import locate
        from kvmtools.observe.symbols.vmlinux import Vmlinux

        vmlinux = Vmlinux.load(path)
        kernel = locate(self.target.memory, vmlinux, self.vmcoreinfo, self.target.registers())
        files = vmlinux.files()
        linked = _loaded_range(files[0])
        self._kernels[:] = [OpenKernel(Session(self.target, kernel))]
        return files, Range(linked.start + kernel.slide, linked.end + kernel.slide), kernel.slide

    @property
    def kernel(self) -> OpenKernel:
        """The kernel, to be asked.

        :raises SymbolsError: if no vmlinux has been found
        """
        if not self._kernels:
            raise SymbolsError(
                f"no vmlinux of the guest's kernel {self.noted.release} was found",
                hint="give it to drgn with -s PATH",
            )
        return self._kernels[0]


def adopt(program: drgn.Program) -> AdoptedProgram:
    """Open the guest of ``program`` a second time, and have the program read through us.

    :param program: of an i386 kernel, just opened: from a core, or by QMP
    :raises AttachError: if there is no way to the same guest; then no read of the program succeeds, for what drgn would
        return may be another page
    """
    try:
        adopted = _opened(program)
    except Exception as error:
        for physical in (False, True):
            refuse_memory(program, str(error), physical=physical)
        if isinstance(error, KvmtoolsError):
            raise
        raise AttachError(f"{type(error).__name__}: {error}") from error
    weakref.finalize(adopted, adopted.target.close)
    noted = adopted.noted
    add_memory(program, adopted.target.memory, noted.architecture, noted.root, noted.architecture.paging)
    program.config[OURS] = adopted
    return adopted


def note_of_guest(program: drgn.Program) -> str | None:
    """The VMCOREINFO of the guest that drgn has just opened by QMP, if drgn could not have it: QEMU has no ``-device
    vmcoreinfo``, or was reached by TCP.  It lies in the guest's memory; ``None`` if the kernel has none, or none runs.

    :raises AttachError: if there is no way to the guest; then no read of the program succeeds
    """
    try:
        with _live() as target:
            for text in notes_in_memory(target.memory):
                with suppress(SymbolsError):
                    noted_kernel(target.memory, text)
                    return text
            if target.memory.ranges[-1].end > I386.address_end:
                refuse_memory(
                    program, "drgn cuts physical addresses to 32 bits, and this guest has more", physical=True
                )
            return None
    except KvmtoolsError as error:
        refuse_memory(program, str(error), physical=True)
        raise


def is_adopted(program: drgn.Program) -> bool:
    """Whether :func:`kernel_of` may know its kernel."""
    return program.config.get(OURS) is not None


def kernel_of(program: drgn.Program) -> OpenKernel:
    """The kernel behind a drgn program of ours, or that our plugin has adopted.

    :raises UsageError: if it is of another architecture, or was opened without our plugin
    :raises SymbolsError: if it has no vmlinux yet
    """
    known = program.config.get(OURS)
    if isinstance(known, OpenKernel):
        return known
    if isinstance(known, AdoptedProgram):
        return known.kernel
    architecture = program.platform.arch if program.platform else None
    if architecture is not drgn.Architecture.I386:
        name = architecture.name.lower() if architecture else "an unknown architecture"
        raise UsageError(f"this drgn program is of {name}", hint="kvmtools knows kernels of i386")
    raise UsageError(
        "this drgn program was opened without kvmtools",
        hint="is its plugin disabled (DRGN_DISABLE_PLUGINS)? is it a guest's kernel? drgn's first lines say why",
    )


def _opened(program: drgn.Program) -> AdoptedProgram:
    if program.core_dump_path is not None:
        from kvmtools.attach.core_target import CoreTarget

        target: Target = CoreTarget(Path(program.core_dump_path))
    else:
        target = _live()
    try:
        # Bytes as they are: asked of drgn, because it has them, and of a live guest we would have to dump them again.
        text = program["VMCOREINFO"].string_().decode("ascii", "replace")
        return AdoptedProgram(target, noted_kernel(target.memory, text), text)
    except BaseException:
        target.close()
        raise


def _live() -> Target:
    from kvmtools.attach.live_target import LiveTarget
    from kvmtools.attach.monitor.borrowed import borrow

    return LiveTarget(borrow())


def _loaded_range(path: Path) -> Range:
    """Where a vmlinux is linked to: from its first segment to the last (drgn's ``drgn_elf_file_address_range``).

    :raises SymbolsError: if it loads nothing
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        loads = [each for each in ElfFile(descriptor).segments if each.type == PT_LOAD and each.memory_size]
    finally:
        os.close(descriptor)
    if not loads:
        raise SymbolsError(f"{path} is not linked: it has nothing to load")
    return Range(loads[0].virtual, loads[-1].virtual + loads[-1].memory_size)

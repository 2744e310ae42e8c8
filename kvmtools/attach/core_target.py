"""A core file as a target: it stands still already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.attach.general_registers import GeneralRegisters
from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.memory.file_memory import opened_core
from kvmtools.attach.memory.kdump_core import SIGNATURES, KdumpCore
from kvmtools.attach.monitor.pause import NoPause, Pausing
from kvmtools.attach.target import Target
from kvmtools.errors import AttachError
from kvmtools.records import Registers

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory
    from kvmtools.attach.monitor.gdb import Gdb


class StillTarget(Target):
    """Memory that does not change, and the registers that belong to it."""

    def __init__(
        self,
        memory: PhysicalMemory,
        registers: tuple[Registers, ...],
        general: tuple[GeneralRegisters, ...] = (),
    ) -> None:
        self.memory = memory
        self.monitor = None
        self.vmlinux = None
        self.description = self.transport = memory.name
        self._registers, self._general = registers, general

    def registers(self) -> tuple[Registers, ...]:
        return self._registers

    def general_registers(self) -> tuple[GeneralRegisters, ...]:
        return self._general

    def registers_by_gdb(self) -> tuple[Registers, ...]:
        raise _no_cpu()

    def gdb(self) -> Gdb:
        raise _no_cpu()

    def vmcoreinfo(self) -> str | None:
        return None

    def paused(self) -> Pausing:
        return NoPause(was_running=False)

    def close(self) -> None:
        self.memory.close()


def _no_cpu() -> AttachError:
    return AttachError(
        "a core has no CPU for gdb to talk to", hint="attach to a running guest with --qemu or --gdb"
    )


def _opened(path: Path) -> ElfCore | KdumpCore:
    """The file by whoever reads its kind."""
    try:
        with open(opened_core(path), "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise AttachError(f"cannot read the core {path}: {error.strerror}") from error
    return KdumpCore(path) if start.startswith(SIGNATURES) else ElfCore(path)


class CoreTarget(StillTarget):
    """What ``dump-guest-memory``, makedumpfile or ``kvmtools snapshot`` wrote.

    :raises AttachError: if it is not a complete core of an i386 guest
    """

    def __init__(self, path: Path, *, vmlinux: Path | None = None) -> None:
        core = _opened(path)
        try:
            super().__init__(core, core.registers(), core.general_registers())
        except BaseException:
            core.close()
            raise
        self._core = core
        self.recording = core.recording
        self.vmlinux = vmlinux
        cpus = len(self._registers)
        mib = sum(map(len, core.ranges)) >> 20
        self.description = f"core {path}: {cpus} vCPU{'s' * (cpus != 1)}, {mib} MiB"
        self.transport = f"{core.name} (a file: nothing to prove)"

    def vmcoreinfo(self) -> str | None:
        return self._core.vmcoreinfo()

"""A core file as a target: it stands still already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.monitor.pause import NoPause, Pausing
from kvmtools.attach.target import Target
from kvmtools.errors import AttachError
from kvmtools.records import Registers

if TYPE_CHECKING:
    from kvmtools.attach.monitor.gdb import Gdb


class CoreTarget(Target):
    """What ``dump-guest-memory`` wrote.

    :raises AttachError: if it is not a complete ELF core of an i386 guest
    """

    def __init__(self, path: Path, *, vmlinux: Path | None = None) -> None:
        self._core = ElfCore(path)
        self.memory = self._core
        self.monitor = None
        self.vmlinux = vmlinux
        cpus = len(self._core.registers())
        mib = sum(map(len, self._core.ranges)) >> 20
        self.description = f"core {path}: {cpus} vCPU{'s' * (cpus != 1)}, {mib} MiB"
        self.transport = f"{self._core.name} (a file: nothing to prove)"

    def registers(self) -> tuple[Registers, ...]:
        return self._core.registers()

    def registers_by_gdb(self) -> tuple[Registers, ...]:
        raise _no_cpu()

    def gdb(self) -> Gdb:
        raise _no_cpu()

    def vmcoreinfo(self) -> str | None:
        return self._core.vmcoreinfo()

    def paused(self) -> Pausing:
        return NoPause(was_running=False)

    def close(self) -> None:
        self._core.close()


def _no_cpu() -> AttachError:
    return AttachError(
        "a core has no CPU for gdb to talk to", hint="attach to a running guest with --qemu or --gdb"
    )

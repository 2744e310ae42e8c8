"""One guest to look at, however it is reached."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.attach.closing import Closing
from kvmtools.attach.memory.physical import PhysicalMemory
from kvmtools.attach.monitor.pause import Pausing
from kvmtools.records import Registers

if TYPE_CHECKING:
    from kvmtools.attach.general_registers import GeneralRegisters
    from kvmtools.attach.monitor.gdb import Gdb
    from kvmtools.attach.monitor.monitor import Monitor
    from kvmtools.attach.recording import Recording


class Target(Closing):
    """A guest, or what is left of one; a context manager that lets go of it at the end."""

    description: str
    """What it is, for a person: ``QEMU 7.2.22 at PATH: 2 vCPUs, 6144 MiB``."""
    memory: PhysicalMemory
    transport: str
    """One line: how the memory is reached, and how that way proved itself."""
    vmlinux: Path | None
    monitor: Monitor | None
    """The way to ask the QEMU of a live guest; None for a core."""

    recording: Recording | None = None
    """What a recorded guest tells beside its memory; ``None`` for any other."""

    @abstractmethod
    def registers(self) -> tuple[Registers, ...]:
        """Every vCPU's registers, in vCPU order; empty if a core does not hold them.

        :raises GuestVanished: if QEMU is gone
        """

    def general_registers(self) -> tuple[GeneralRegisters, ...]:
        """The general ones, for debuggers; raises as :meth:`registers`, and is empty if they are not known."""
        return ()

    @abstractmethod
    def registers_by_gdb(self) -> tuple[Registers, ...]:
        """The same from QEMU's gdbstub; one is opened for that, and closed again, where QEMU has none.

        A guest that runs stands still meanwhile.

        :raises AttachError: if there is none, or it serves somebody else
        """

    @abstractmethod
    def gdb(self) -> Gdb:
        """A new gdb on the guest, which stands still until that is closed.

        Open and close it on the same side of :meth:`paused`: it leaves the run state as it found it.

        :raises AttachError: if there is no gdb socket, or it does not answer
        """

    @abstractmethod
    def vmcoreinfo(self) -> str | None:
        """The kernel's VMCOREINFO text (Documentation/admin-guide/kdump/vmcoreinfo.rst); None if it cannot
        be had."""

    @abstractmethod
    def paused(self) -> Pausing:
        """Hold the guest still for the length of a ``with``; see
        :class:`kvmtools.attach.monitor.pause.PausedGuest`."""

    @abstractmethod
    def close(self) -> None:
        """Let go.  What was captured, and views of memory, stay valid."""

"""One guest to look at, however it is reached: the door of this room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kvmtools.attach.memory import PhysicalMemory
from kvmtools.attach.pause import Pause, Pausing
from kvmtools.errors import UsageError
from kvmtools.records import Registers

if TYPE_CHECKING:
    from kvmtools.attach.gdb import Gdb
    from kvmtools.attach.qmp import Monitor

__all__ = ["Pause", "Target", "open_target"]


class Target(ABC):
    """A guest, or what is left of one; a context manager that lets go of it at the end."""

    description: str
    """What it is, for a person: ``QEMU 7.2.22 at PATH: 2 vCPUs, 6144 MiB``."""
    memory: PhysicalMemory
    transport: str
    """One line: how the memory is reached, and how that way proved itself."""
    vmlinux: Path | None
    monitor: Monitor | None
    """The QMP connection of a live guest; None for a core."""

    @abstractmethod
    def registers(self) -> tuple[Registers, ...]:
        """Every vCPU's registers, in vCPU order; empty if a core does not hold them.

        :raises GuestVanished: if QEMU is gone
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
        :class:`kvmtools.attach.pause.PausedGuest`."""

    @abstractmethod
    def close(self) -> None:
        """Let go.  What was captured, and views of memory, stay valid."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_target(
    *,
    qemu: str | None = None,
    gdb: str | None = None,
    ram: Path | None = None,
    core: Path | None = None,
    vmlinux: Path | None = None,
    pause: bool = True,
) -> Target:
    """Attach to a running QEMU, or open a core.

    :param qemu: address of a QMP socket: a path, or ``host:port``
    :param gdb: address of the same QEMU's gdbstub
    :param ram: its shared RAM file; without it QEMU is asked, and without any its process is read
    :param core: an ELF core, instead of a QEMU
    :param pause: whether :meth:`Target.paused` may stop the guest
    :raises UsageError: unless exactly one of ``qemu`` and ``core`` is given
    :raises AttachError: if there is no way to it
    """
    if (qemu is None) == (core is None):
        raise UsageError("name one guest: a QMP socket or a core", hint="--qemu SOCKET, or --core FILE")
    if qemu is None and (gdb is not None or ram is not None):
        raise UsageError("a core has neither a gdb socket nor a RAM file")
    if core is not None:
        from kvmtools.attach.core_target import CoreTarget

        return CoreTarget(core, vmlinux=vmlinux)
    from kvmtools.attach.live_target import LiveTarget

    assert qemu is not None
    return LiveTarget(qemu, gdb=gdb, ram=ram, vmlinux=vmlinux, pause=pause)

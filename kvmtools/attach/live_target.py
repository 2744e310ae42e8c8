"""A running QEMU as a target."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.attach import transports
from kvmtools.attach.elf import ElfError, ElfFile, vmcoreinfo_among
from kvmtools.attach.monitor import address, registers
from kvmtools.attach.monitor.gdbstub import demand_gdbstub
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.attach.monitor.pause import NoPause, PausedGuest, Pausing
from kvmtools.attach.target import Target
from kvmtools.errors import AttachError, GuestVanished
from kvmtools.records import PAGE_SIZE, Registers

if TYPE_CHECKING:
    from kvmtools.attach.general_registers import GeneralRegisters
    from kvmtools.attach.monitor.gdb import Gdb


_LIBVIRT = "charmonitor"
"""The character device of libvirt's own QMP connection (``qemuBuildMonitorCommandLine``, libvirt qemu_command.c)."""


class LiveTarget(Target):
    """A QEMU that can be asked; see :func:`kvmtools.attach.open.open_target` for the other arguments.

    :param monitor: the way to ask it; it is closed with this, also if there is no way to the guest
    :raises AttachError: if there is no way to its memory
    """

    monitor: Monitor

    def __init__(
        self,
        monitor: Monitor,
        *,
        gdb: str | None = None,
        demand_gdb: bool = True,
        ram: Path | None = None,
        vmlinux: Path | None = None,
        pause: bool = True,
        seed: int | None = None,
    ) -> None:
        self.vmlinux = vmlinux
        self.monitor = monitor
        self._gdb_address = gdb
        self._may_pause = pause
        self._vmcoreinfo: str | None = None
        self._asked_vmcoreinfo = False
        try:
            if gdb is not None and demand_gdb:
                demand_gdbstub(gdb, monitor, may_stop=pause)
            version = monitor.version()
            cpus = len(monitor.vcpu_threads())
            # Not the sum of the ranges: 256 KiB of a PC's RAM are hidden below firmware and video memory.
            mib = monitor.ram_bytes() >> 20
            self.memory, self.transport = transports.choose(monitor, ram, seed)  # last: nobody closes it here
        except BaseException:
            monitor.close()
            raise
        self.description = f"QEMU {version} at {monitor.address}: {cpus} vCPU{'s' * (cpus != 1)}, {mib} MiB"

    def registers(self) -> tuple[Registers, ...]:
        return registers.parse(self.monitor.hmp("info registers -a"))

    def registers_by_gdb(self) -> tuple[Registers, ...]:
        from kvmtools.attach.monitor.stub_monitor import StubMonitor

        if isinstance(self.monitor, StubMonitor):
            return self.monitor.registers()
        from kvmtools.attach.monitor.user_gdb import UserGdbMonitor

        if isinstance(self.monitor, UserGdbMonitor):
            raise AttachError("the gdbstub is your gdb's")
        with (
            self._stub_address() as where,
            StubMonitor(where, runs=self.monitor.running(), threads=self.monitor.vcpu_threads()) as stub,
        ):
            return stub.registers()

    def general_registers(self) -> tuple[GeneralRegisters, ...]:
        from kvmtools.attach import general_registers

        return general_registers.parse(self.monitor.hmp("info registers -a"))

    def gdb(self) -> Gdb:
        if self._gdb_address is None:
            raise AttachError("no gdb socket of this guest is known", hint="name it with --gdb ADDRESS")
        address.demand_socket(self._gdb_address, "gdb")
        from kvmtools.attach.monitor.gdb import Gdb

        return Gdb(self._gdb_address, monitor=self.monitor)  # the vmlinux may be one that gdb cannot read

    def _stub_address(self) -> AbstractContextManager[str]:
        if self._gdb_address is not None:
            return nullcontext(self._gdb_address)
        from kvmtools.attach.monitor.borrowed_stub import borrowed_stub

        return borrowed_stub(self.monitor)

    def vmcoreinfo(self) -> str | None:
        """Asked of QEMU once, with a dump of a single page, which stops the guest for some milliseconds.

        None if the guest has no ``-device vmcoreinfo``, if QEMU cannot be lent a file (it runs on another host), if
        libvirt looks after it, or if the guest must not be stopped.
        """
        if not self._asked_vmcoreinfo:
            self._asked_vmcoreinfo = True
            self._vmcoreinfo = self._dump_vmcoreinfo()
        return self._vmcoreinfo

    def paused(self) -> Pausing:
        return PausedGuest(self.monitor) if self._may_pause else NoPause(was_running=self.monitor.running())

    def close(self) -> None:
        try:
            self.memory.close()
        finally:
            self.monitor.close()

    def _dump_vmcoreinfo(self) -> str | None:
        if not self._may_pause and self.monitor.running():
            return None
        if any(device.label == _LIBVIRT for device in self.monitor.chardevs()):
            # libvirtd 9.0 dies of the event that tells the end of a dump which it did not start itself, whichever
            # monitor the dump was started from (``qemuProcessHandleDumpCompleted`` reads a job that is not there).
            return None
        descriptor = os.memfd_create("kvmtools-vmcoreinfo", os.MFD_CLOEXEC)
        try:
            with self.monitor.lent(descriptor) as path:
                # The notes come with every dump, however short; a length is needed or it would be all of memory.
                self.monitor.dump(path, self.memory.ranges[0].start, PAGE_SIZE)
            return vmcoreinfo_among(ElfFile(descriptor).notes())
        except GuestVanished:
            raise
        except (AttachError, ElfError):
            return None
        finally:
            os.close(descriptor)

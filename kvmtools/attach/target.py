"""One guest to look at, however it is reached: the door of this room."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from kvmtools.attach import memory_map, registers
from kvmtools.attach.memory import PhysicalMemory, Segment
from kvmtools.attach.pause import NoPause, PausedGuest, Pausing
from kvmtools.attach.qmp import Monitor
from kvmtools.attach.ram_file import RamFile
from kvmtools.errors import UsageError
from kvmtools.records import Registers


class Target:
    """A guest and the ways to its memory and CPUs; a context manager that hangs up at the end."""

    def __init__(
        self,
        *,
        description: str,
        memory: PhysicalMemory,
        transport: str,
        monitor: Monitor,
        vmlinux: Path | None,
        pause: bool,
    ) -> None:
        self.description = description
        self.memory = memory
        self.transport = transport
        self.monitor: Monitor | None = monitor
        self.vmlinux = vmlinux
        self._pause = pause

    def registers(self) -> tuple[Registers, ...]:
        assert self.monitor is not None
        return registers.parse(self.monitor.hmp("info registers -a"))

    def vmcoreinfo(self) -> str | None:
        return None

    def paused(self) -> Pausing:
        assert self.monitor is not None
        if self._pause:
            return PausedGuest(self.monitor)
        return NoPause(was_running=bool(self.monitor.command("query-status")["running"]))

    def close(self) -> None:
        self.memory.close()
        if self.monitor is not None:
            self.monitor.close()

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
    if qemu is None or ram is None:
        raise UsageError("first version: qemu and ram only")
    monitor = Monitor(qemu)
    backed = memory_map.ram(monitor)
    memory = RamFile(ram, [Segment(b.start, b.end, b.offset) for b in backed])
    return Target(
        description=f"QEMU at {qemu}",
        memory=memory,
        transport="ram-file",
        monitor=monitor,
        vmlinux=vmlinux,
        pause=pause,
    )

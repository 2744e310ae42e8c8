"""The memory of somebody else's QEMU, through ``/proc/PID/mem``.

No shared file is needed: QEMU's own ``gpa2hva`` says where in its address space the guest's RAM lies.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator

from kvmtools.attach.memory.file_memory import fill
from kvmtools.attach.memory.flat_view import Backed
from kvmtools.attach.memory.physical import Segment, SegmentedMemory
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, GuestVanished
from kvmtools.records import PAGE_SIZE

_HOST_ADDRESS = re.compile(r"is (0x[0-9a-f]+)\s*$")


class ProcMem(SegmentedMemory):
    """:class:`PhysicalMemory` over another process; segment offsets are that process's virtual addresses.

    :raises AttachError: if the process cannot be found, or its memory may not be read
    """

    name = "proc-mem"

    def __init__(self, monitor: Monitor, backed: Iterable[Backed]) -> None:
        super().__init__(_segments(monitor, backed))
        self._pid = monitor.peer_pid()
        try:
            # An open file stays with the address space it was opened for: a recycled pid cannot fool it.
            self._descriptor = os.open(f"/proc/{self._pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AttachError(
                f"the memory of QEMU (pid {self._pid}) may not be read: {error.strerror}",
                hint="run as its user, with kernel.yama.ptrace_scope=0, or as root",
            ) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _copy(self, offset: int, buffer: memoryview) -> None:
        try:
            fill(self._descriptor, offset, buffer)
        except EOFError:
            raise GuestVanished(f"the guest is gone: QEMU (pid {self._pid}) ended") from None
        except OSError as error:
            if error.errno == errno.EBADF:
                raise AttachError(f"this {self.name} is closed") from error
            raise AttachError(
                f"reading QEMU (pid {self._pid}) at {offset:#x} failed: {error.strerror}",
                hint="did it unplug memory? attach again",
            ) from error


def _segments(monitor: Monitor, backed: Iterable[Backed]) -> Iterator[Segment]:
    for region in backed:
        first = _host_address(monitor, region.start)
        last = _host_address(monitor, region.end - PAGE_SIZE)
        if last - first != region.end - PAGE_SIZE - region.start:
            raise AttachError(f"QEMU does not keep the RAM at {region.start:#x} in one piece")
        yield Segment(region.start, region.end, first)


def _host_address(monitor: Monitor, address: int) -> int:
    answer = monitor.hmp(f"gpa2hva {address:#x}")
    found = _HOST_ADDRESS.search(answer)
    if found is None:
        raise AttachError(f"QEMU does not tell where {address:#x} lies: {answer.strip()}")
    return int(found[1], 16)

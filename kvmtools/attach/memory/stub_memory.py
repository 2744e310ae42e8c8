"""Guest memory through a gdbstub alone: packets that read memory, which QEMU is told to take for physical.

For a QEMU whose process is not to be seen: on another host, or another user's.  About 20 MB/s; the guest stands still
for each read.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvmtools.attach.memory.physical import FOUR_GIB, PhysicalMemory, Segment, SegmentedMemory
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.records import Range


class StubMemory(SegmentedMemory):
    """:class:`PhysicalMemory` by ``Qqemu.PhyMemMode``; segment offsets are guest-physical addresses.

    :param above: what is asked instead at 4 GiB and above, where qemu-system-i386 before 8.0 shows another page
    """

    name = "gdbstub"

    def __init__(
        self, monitor: Monitor, ranges: Iterable[Range], above: PhysicalMemory | None = None
    ) -> None:
        super().__init__(Segment(r.start, r.end, r.start) for r in ranges)
        self._monitor = monitor
        self._above = above
        self.suspected = above is None
        if above is not None:
            self.name = f"gdbstub, {above.name} above 4 GiB"

    def close(self) -> None:
        """The monitor belongs to others."""

    def _copy(self, offset: int, buffer: memoryview) -> None:
        if self._above is not None and offset >= FOUR_GIB:
            self._above.readinto(offset, buffer)
        else:
            buffer[:] = self._monitor.read_physical(offset, len(buffer))

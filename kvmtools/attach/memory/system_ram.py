"""Which memory in a dump is the PC's system RAM: QEMU dumps frame buffers and firmware, too, and does not say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmtools.attach.memory.physical import FOUR_GIB, Segment

_ONE_MIB = 1 << 20


def system_ram(segments: Iterable[Segment]) -> Iterator[Segment]:
    """A PC's RAM below 4 GiB goes in one piece from 1 MiB to the PCI hole: what comes after a gap, below 4 GiB, belongs
    to a device.
    """
    end = 0
    for each in sorted(segments, key=lambda segment: segment.start):
        if each.start < FOUR_GIB and end > _ONE_MIB and each.start > end:
            continue
        end = each.end
        yield each

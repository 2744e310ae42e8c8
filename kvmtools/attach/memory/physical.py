"""Guest-physical memory behind one small interface, and the arithmetic that all its transports share.

Addresses are 64 bits wide, whatever the guest: an i386 kernel with PAE has RAM above 4 GiB.  The backend of
a transport (a file, another process, a core) is addressed by its own *offsets*; guest-physical RAM is cut
into :class:`Segment` because of the PCI hole and the legacy hole below 1 MiB, which the backend does not
have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from kvmtools.errors import MemoryFault
from kvmtools.records import Range

FOUR_GIB = 1 << 32
NO_RAM = "no RAM of this guest"
NOT_CAPTURED = "it was not captured"


class PhysicalMemory(Protocol):
    """RAM as the guest's CPUs see it, by guest-physical address (bytes, 64 bits)."""

    @property
    def name(self) -> str:
        """The transport: ``"ram-file"``, ``"proc-mem"``, ``"pmemsave"``, ``"xp"`` or ``"elf-core"``."""

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Where there is RAM: sorted, disjoint, the PCI hole left out."""

    def view(self, address: int, size: int) -> memoryview:
        """The bytes themselves where the transport allows it, else a copy; read-only.

        :raises MemoryFault: if any of the bytes is not RAM
        :raises GuestVanished: if the guest ended and its memory with it
        """

    def read(self, address: int, size: int) -> bytes:
        """A copy of the bytes; raises as :meth:`view`."""

    def readinto(self, address: int, buffer: memoryview) -> None:
        """Fill ``buffer`` (writable, contiguous, one byte per item) with one copy; raises as :meth:`view`."""

    def close(self) -> None:
        """Let go of the transport.  Views handed out before stay valid."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Guest-physical ``[start, end)`` is the backend's ``[offset, offset + end - start)``."""

    start: int
    end: int
    offset: int


class Segments:
    """A sorted set of segments, and the question asked most: where in the backend is this address?

    :param ram: where the guest has RAM, if the backend need not have all of it
    :ivar ranges: where the guest has RAM
    """

    def __init__(self, segments: Iterable[Segment], ram: tuple[Range, ...] = ()) -> None:
        self._segments = tuple(sorted(segments, key=lambda segment: segment.start))
        self._starts = [segment.start for segment in self._segments]
        self.ranges = ram or self.captured

    @property
    def captured(self) -> tuple[Range, ...]:
        """What the backend has, neighbours joined."""
        return tuple(_joined(self._segments))

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def locate(self, address: int, size: int) -> list[tuple[int, int]]:
        """``(offset, length)`` of each piece of ``[address, address + size)``, in order.

        :raises MemoryFault: if any byte lies in no segment; its address is that byte's
        """
        pieces = []
        end = address + size
        while address < end:
            index = bisect_right(self._starts, address) - 1
            if index < 0 or address >= self._segments[index].end:
                missed = any(address in ram for ram in self.ranges)
                raise MemoryFault(address, NOT_CAPTURED if missed else NO_RAM)
            segment = self._segments[index]
            length = min(end, segment.end) - address
            pieces.append((segment.offset + address - segment.start, length))
            address += length
        return pieces


class SegmentedMemory:
    """What the transports have in common; each adds :meth:`_copy` and, where it can, :meth:`_share`."""

    name: str
    suspected = False
    """Whether such a transport is known to show other pages above 4 GiB at times."""

    def __init__(self, segments: Iterable[Segment], ram: tuple[Range, ...] = ()) -> None:
        self.segments = Segments(segments, ram)
        self.ranges = self.segments.ranges

    def view(self, address: int, size: int) -> memoryview:
        pieces = self.segments.locate(address, size)
        if len(pieces) == 1:
            return self._share(*pieces[0])
        return memoryview(self._gather(pieces, size)).toreadonly()

    def read(self, address: int, size: int) -> bytes:
        pieces = self.segments.locate(address, size)
        if len(pieces) == 1:
            return self._bytes(*pieces[0])
        return bytes(self._gather(pieces, size))

    def readinto(self, address: int, buffer: memoryview) -> None:
        self._scatter(self.segments.locate(address, len(buffer)), buffer)

    def next_data(self, address: int) -> int:
        """Where to look for something other than zeros, at or after ``address``: a hint; here ``address`` itself."""
        return address

    def close(self) -> None:
        raise NotImplementedError

    def _copy(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from the backend at ``offset``."""
        raise NotImplementedError

    def _bytes(self, offset: int, size: int) -> bytes:
        """The backend's ``[offset, offset + size)``; by one copy where the transport knows how."""
        return bytes(self._gather([(offset, size)], size))

    def _share(self, offset: int, size: int) -> memoryview:
        """A view of the backend's ``[offset, offset + size)``; a copy unless the transport knows better."""
        return memoryview(self._gather([(offset, size)], size)).toreadonly()

    def _gather(self, pieces: list[tuple[int, int]], size: int) -> bytearray:
        data = bytearray(size)
        with memoryview(data) as buffer:
            self._scatter(pieces, buffer)
        return data

    def _scatter(self, pieces: list[tuple[int, int]], buffer: memoryview) -> None:
        done = 0
        for offset, length in pieces:
            self._copy(offset, buffer[done : done + length])
            done += length


def _joined(segments: Iterable[Segment]) -> Iterator[Range]:
    """Sorted segments as ranges; neighbours become one."""
    start = end = None
    for segment in segments:
        if segment.start == end:
            end = segment.end
            continue
        if start is not None and end is not None:
            yield Range(start, end)
        start, end = segment.start, segment.end
    if start is not None and end is not None:
        yield Range(start, end)

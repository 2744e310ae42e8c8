"""What was captured of the guest's memory while it was paused, so that looking at it can take its time.

Two kinds of captured memory: large stretches copied as a whole (``mem_map``), each in one buffer; and
single pages, kept as they are read.  Page granular: whoever reads one byte has the page.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress

from kvmtools.attach.memory.physical import NO_RAM, NOT_CAPTURED, PhysicalMemory, Segment, Segments
from kvmtools.errors import MemoryFault
from kvmtools.records import PAGE_SIZE, Range

_PAGE_MASK = PAGE_SIZE - 1
_MADV_POPULATE_WRITE = 23  # Linux 5.14; the mmap module has no name for it


class Snapshot:
    """Sparse copy of physical memory, itself a :class:`PhysicalMemory`.

    While open it reads through to ``source`` and keeps what is read; once sealed it answers for captured
    bytes only.
    """

    def __init__(self, source: PhysicalMemory) -> None:
        self.name = source.name
        self._source: PhysicalMemory | None = source
        self._ram = Segments(Segment(r.start, r.end, r.start) for r in source.ranges)
        self._pages: dict[int, bytearray] = {}
        self._kept: list[
            tuple[Range, memoryview]
        ] = []  # sorted, disjoint, page-aligned; the views are writable
        self._prepared: dict[Range, memoryview] = {}

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The guest's RAM, captured or not."""
        return self._ram.ranges

    def prepare(self, address: int, size: int) -> None:
        """Get the memory that :meth:`keep` with the same arguments will fill.

        The first touch of fresh memory is slower than the copy: do it before the guest is paused.

        :raises MemoryFault: if the stretch is not all RAM
        """
        self._ram.locate(address, size)
        stretch = _whole_pages(address, size)
        if len(stretch):
            self._prepared[stretch] = _touched_buffer(len(stretch))

    def keep(self, address: int, size: int) -> None:
        """Capture ``[address, address + size)``, rounded to whole pages, with one copy into one buffer.

        Where it overlaps what was captured before, the earlier capture stands: it was read first.

        :raises MemoryFault: if the stretch is not all RAM, or the snapshot is sealed
        """
        if self._source is None:
            raise MemoryFault(address, "the snapshot is sealed: nothing more can be captured")
        self._ram.locate(address, size)  # before there is room made for what cannot be had
        stretch = _whole_pages(address, size)
        for missing in self._missing(stretch):
            buffer = self._prepared.pop(missing, None)
            if buffer is None:
                buffer = memoryview(bytearray(len(missing)))
            self._source.readinto(missing.start, buffer)
            for pfn in [pfn for pfn in self._pages if pfn * PAGE_SIZE in missing]:
                at = pfn * PAGE_SIZE - missing.start
                buffer[at : at + PAGE_SIZE] = self._pages.pop(pfn)
            self._kept.append((missing, buffer))
            self._kept.sort(key=lambda kept: kept[0])

    def view(self, address: int, size: int) -> memoryview:
        """Captured bytes, zero-copy inside one kept stretch or one page.

        :raises MemoryFault: if any byte is not RAM, or, once sealed, was not captured
        """
        first = self._piece(address, size)
        if len(first) == size:
            return first.toreadonly()
        return memoryview(b"".join(self._pieces(address, size)))

    def read(self, address: int, size: int) -> bytes:
        """A copy of captured bytes; raises as :meth:`view`."""
        return b"".join(self._pieces(address, size))

    def readinto(self, address: int, buffer: memoryview) -> None:
        """Copy captured bytes to ``buffer``; raises as :meth:`view`."""
        done = 0
        for piece in self._pieces(address, len(buffer)):
            buffer[done : done + len(piece)] = piece
            done += len(piece)

    def seal(self) -> None:
        """From now on only what was captured can be read; the source is not needed any more."""
        self._source = None
        self._prepared.clear()

    def close(self) -> None:
        """The same as :meth:`seal`: what was captured stays readable."""
        self.seal()

    def patch(self, address: int, data: bytes) -> None:
        """Overwrite captured bytes, to break a structure in a test; the guest is untouched.

        :raises MemoryFault: as :meth:`view`
        """
        done = 0
        for piece in self._pieces(address, len(data)):
            piece[:] = data[done : done + len(piece)]
            done += len(piece)

    @property
    def captured(self) -> tuple[Range, ...]:
        """What was captured: sorted, disjoint, neighbours joined."""
        return Segments(Segment(start, start + len(data), 0) for start, data in self._blocks()).ranges

    def _blocks(self) -> Iterator[tuple[int, memoryview]]:
        yield from ((stretch.start, data) for stretch, data in self._kept)
        yield from ((pfn * PAGE_SIZE, memoryview(page)) for pfn, page in self._pages.items())

    def _pieces(self, address: int, size: int) -> Iterator[memoryview]:
        end = address + size
        while address < end:
            piece = self._piece(address, end - address)
            yield piece
            address += len(piece)

    def _piece(self, address: int, size: int) -> memoryview:
        """At most ``size`` bytes at ``address``: up to the end of its page or kept stretch; writable."""
        index = bisect_right(self._kept, address, key=lambda kept: kept[0].start) - 1
        if index >= 0 and address < self._kept[index][0].end:
            stretch, data = self._kept[index]
            at = address - stretch.start
            return data[at : at + size]
        at = address & _PAGE_MASK
        return memoryview(self._page(address))[at : min(at + size, PAGE_SIZE)]

    def _page(self, address: int) -> bytearray:
        pfn = address // PAGE_SIZE
        page = self._pages.get(pfn)
        if page is None:
            if self._source is None:
                self._ram.locate(address, 1)
                raise MemoryFault(address, NOT_CAPTURED)
            page = bytearray(PAGE_SIZE)
            try:
                self._source.readinto(pfn * PAGE_SIZE, memoryview(page))
            except MemoryFault as fault:
                missed = fault.message.endswith(NOT_CAPTURED)
                raise MemoryFault(address, NOT_CAPTURED if missed else NO_RAM) from None
            self._pages[pfn] = page
        return page

    def _missing(self, stretch: Range) -> Iterator[Range]:
        """The parts of ``stretch`` that no kept buffer holds."""
        start = stretch.start
        for kept in [kept for kept, _ in self._kept if kept.end > stretch.start and kept.start < stretch.end]:
            if kept.start > start:
                yield Range(start, kept.start)
            start = kept.end
        if start < stretch.end:
            yield Range(start, stretch.end)


def _whole_pages(address: int, size: int) -> Range:
    return Range(address & ~_PAGE_MASK, (address + size + _PAGE_MASK) & ~_PAGE_MASK)


def _touched_buffer(size: int) -> memoryview:
    """Private memory with its pages already there, large ones if the host has them."""
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in (mmap.MADV_HUGEPAGE, _MADV_POPULATE_WRITE):
        with suppress(OSError):  # only advice: a kernel without it is slower, not wrong
            buffer.madvise(advice)
    return memoryview(buffer)

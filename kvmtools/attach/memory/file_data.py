"""Which parts of a sparse file have data.

On tmpfs even a *read* of a hole through a shared mapping allocates the page, so looking through a 60 GiB guest that
uses 300 MiB would make it cost 60 GiB.  ``mincore(2)`` is no help: since Linux 5.2 it calls everything present to those
who may not write the file.  ``lseek(2)`` tells everybody.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right

from kvmtools.records import PAGE_SIZE


class FileData:
    """What is known of where a file has data; each page is looked for once.

    Data is taken to stay: were it given back to the host meanwhile (a balloon), looking there would allocate a page.

    :param descriptor: an open file; its position is moved
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Sorted and disjoint, as two lists for bisect.
        self._starts: list[int] = []
        self._ends: list[int] = []

    def covers(self, offset: int, size: int) -> bool:
        """Whether no byte of ``[offset, offset + size)`` is in a hole.

        :raises OSError: if the file cannot tell
        """
        end = offset + size
        index = bisect_right(self._starts, offset) - 1
        known = self._ends[index] if index >= 0 and offset < self._ends[index] else offset & -PAGE_SIZE
        first = known
        # SEEK_HOLE would tell more at once; but on tmpfs it looks at every page up to the next hole, which may be far.
        while known < end and self.next(known) == known:
            known += PAGE_SIZE
        if known > first:
            self._remember(first, known)
        return known >= end

    def next(self, offset: int) -> int | None:
        """The first offset from ``offset`` on that is in no hole; ``None`` if only a hole is left.

        :raises OSError: if the file cannot tell
        """
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise

    def _remember(self, start: int, end: int) -> None:
        first = bisect_right(self._ends, start - 1)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

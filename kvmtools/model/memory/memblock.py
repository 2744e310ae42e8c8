"""Page frames before there is a page allocator: taken from the top down, and never given back.

Source: mm/memblock.c (memblock_find_in_range_node, __memblock_find_range_top_down), 6.1; its forerunner in
2.4 and 2.6 was the boot memory allocator (mm/bootmem.c).  ``mem_map`` must exist before the buddy allocator can,
so this is where its memory comes from.  Everything here is a page frame number.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvmtools.errors import UsageError
from kvmtools.model.memory.ram import joined
from kvmtools.model.rounding import rounddown, roundup
from kvmtools.records import PAGE_SIZE, Range


class Memblock:
    """The frames of RAM that nobody has taken yet.

    :param ram: RAM, sorted and disjoint
    """

    def __init__(self, ram: Iterable[Range]) -> None:
        self._free = tuple(ram)

    @property
    def free(self) -> tuple[Range, ...]:
        """What is left, ascending."""
        return self._free

    def reserve(self, taken: Range) -> None:
        """``[start, end)`` has an owner from now on; what is not RAM, or was taken before, does not matter."""
        cuts = (
            (Range(r.start, min(r.end, taken.start)), Range(max(r.start, taken.end), r.end))
            for r in self._free
        )
        self._free = tuple(joined(part for parts in cuts for part in parts if part))

    def take(self, pages: int, within: Range, *, align: int = 1) -> Range:
        """The highest ``pages`` frames in one piece that are free in ``within``.

        :param align: the piece begins on a multiple of this many frames
        :raises UsageError: if there is no such piece
        """
        for part in self._parts(within):
            start = rounddown(part.end - pages, align)
            if start >= part.start:
                self.reserve(Range(start, start + pages))
                return Range(start, start + pages)
        raise UsageError(
            f"no room for {pages * PAGE_SIZE >> 10} KiB in one piece between pfn {within.start:#x} and {within.end:#x}",
            hint="this kernel could not boot: more RAM, a smaller struct page or another kind of mem_map",
        )

    def scrape(self, pages: int, within: Range, *, align: int = 1) -> list[Range]:
        """Up to ``pages`` frames in as few pieces as there are, from the top down; fewer if there are no more.

        :param align: every piece begins on a multiple of this many frames, and is a multiple long
        """
        pieces = []
        for part in self._parts(within):
            end = rounddown(part.end, align)
            start = max(end - pages, roundup(part.start, align))
            if piece := Range(start, end):
                pieces.append(piece)
                self.reserve(piece)
                pages -= len(piece)
        return pieces

    def _parts(self, within: Range) -> list[Range]:
        """What is free of it, from the top down."""
        parts = (Range(max(r.start, within.start), min(r.end, within.end)) for r in reversed(self._free))
        return [part for part in parts if part]

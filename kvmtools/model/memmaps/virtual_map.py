"""The virtual ``mem_map`` that was proposed in 2006: one array, with memory only behind its used parts.

Lameter's idea (linux-mm, 24 September 2006): reserve ``VMEMMAP_START`` to ``VMEMMAP_START + max_pfn * sizeof(struct
page)``, let page tables back it sparsely, and the conversions become arithmetic on a constant.  Only ``pfn_valid``
pays: it must find out whether the ``struct page`` is mapped, by walking the page table, or by touching it and
surviving the fault, as ia64 did.  New page-table entries make new pfns valid at run time.

What follows from it can be tried here.

* *A leaf has neighbours.*  What is mapped is whole leaves, so pfns that are no RAM but share a leaf with some have a
  ``struct page``, of zeros that nobody initialised, and are valid by either test.  A 4 KiB leaf holds 128 of 32 bytes
  (512 KiB of memory), a 2 MiB leaf 65536 (256 MiB).
* *The buddy allocator trips.*  It takes for granted that what is valid is so out to the largest block, 4 MiB or 1024
  ``struct page``.  4 KiB leaves break that, as Whitcroft answers on the 25th; leaves of 32 KiB or more would not, as
  32 KiB is what the ``struct page`` of a block fill.  Ends of blocks then exist whether they are RAM or not.
* *Sizes that are no power of two spoil it.*  A ``struct page`` of 40 bytes may straddle two leaves, and then both must
  be there for it to be valid; and so may the 40 KiB of a block, which then is not whole even with 2 MiB leaves.
* *The window is virtual space*, holes included, and i386 has that to spare even less than memory (Whitcroft again):
  :func:`window` takes it out of lowmem, where MAXMEM binds.

i386 never had it.  x86_64 has, as SPARSEMEM_VMEMMAP since 2.6.24: :mod:`kvmtools.model.memmaps.vmemmap` is this very
code.

Source: the two mails; arch/ia64/mm/init.c (create_mem_map_page_table, ia64_pfn_valid), 2.6.18; mm/sparse-vmemmap.c,
2.6.24; arch/i386/mm/discontig.c (calculate_numa_remap_pages), 2.6.18, for a ``mem_map`` between lowmem and vmalloc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from kvmtools.errors import UsageError
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.conversions import OPERATIONS, Conversions, Footprint
from kvmtools.model.memmaps.metered_memory import KernelSpace, booted
from kvmtools.model.memory.memblock import Memblock
from kvmtools.model.memory.ram import Ram, joined
from kvmtools.model.paging.forms import ACCESSED, DIRTY, GLOBAL, NX, PRESENT, WRITABLE
from kvmtools.model.paging.walk import translate
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import div_round_up, roundup
from kvmtools.model.space import layout
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Leaf, Range

BACKINGS = ("highmem", "lowmem")


class VirtualMap(Conversions):
    """The array at ``start``, and the variable ``max_pfn``.

    :param start: virtual address of the ``struct page`` of pfn 0, the beginning of the window; a constant of the kernel
    :param pages: pfns that the window has room for
    :param leaf: bytes of the leaves that back it: 4096, or a large page's
    :param backing: pfn ranges to take frames from, the first as long as it lasts
    """

    kind = "virtual"
    operations = (*OPERATIONS, "pfn_valid_by_fault")

    def __init__(
        self,
        space: KernelSpace,
        page_struct_size: int,
        start: int,
        pages: int,
        leaf: int,
        backing: Iterable[Range],
    ) -> None:
        super().__init__(space, page_struct_size)
        self.start = start
        self.pages = pages
        self.leaf = leaf
        self.window = Range(start, start + roundup(pages * page_struct_size, space.large_page))
        self._backing = tuple(backing)
        self._frames = {True: 0, False: 0}
        self._populated: tuple[Range, ...] = ()
        """Leaves that are mapped, as numbers within the window."""
        self._max_pfn = space.variable()
        self._flags = PRESENT | WRITABLE | ACCESSED | DIRTY | GLOBAL | NX * space.form.nx

    def add(self, start: int, end: int) -> None:
        """Make the pfns ``[start, end)`` valid: map what their ``struct page`` need and is not mapped yet.

        :raises UsageError: if they do not fit into the window, or no memory is left to back them
        """
        if not 0 <= start < end <= self.pages:
            raise UsageError(
                f"pfns [{start:#x}, {end:#x}) are no part of the window",
                hint=f"its virtual space has room for pfns below {self.pages:#x}",
            )
        size = self.page_struct_size
        first, last = start * size // self.leaf, div_round_up(end * size, self.leaf)
        for missing in Ram(self._populated, 0).holes(first, last):
            self._populate(missing)
            self._populated = tuple(joined(sorted((*self._populated, missing))))
        known = self.space.read(self._max_pfn, self.space.word)
        self.space.write(self._max_pfn, self.space.word, max(known, end))

    @property
    def valid(self) -> tuple[Range, ...]:
        max_pfn = self.space.read(self._max_pfn, self.space.word)
        size = self.page_struct_size
        found = (
            Range(div_round_up(r.start * self.leaf, size), r.end * self.leaf // size) for r in self._populated
        )
        return tuple(Range(r.start, min(r.end, max_pfn)) for r in found if r)

    @property
    def footprint(self) -> Footprint:
        tables = self._page_tables() * PAGE_SIZE
        return Footprint(
            struct_pages=sum(map(len, self._populated)) * self.leaf,
            window=len(self.window),
            lowmem=self._frames[True] * PAGE_SIZE + tables,
            highmem=self._frames[False] * PAGE_SIZE,
            page_tables=tables,
            static=self.space.word,
        )

    def pfn_valid(self, pfn: int) -> bool:
        """Below ``max_pfn``, and software finds a leaf in the page tables behind the whole ``struct page``."""
        if not 0 <= pfn < self.space.read(self._max_pfn, self.space.word):
            return False
        page, last = self._bytes(pfn)
        return self._is_mapped(page) and (page // self.leaf == last // self.leaf or self._is_mapped(last))

    def pfn_valid_by_fault(self, pfn: int) -> bool:
        """The same by touching it: the first byte, and if the last is on another page of 4 KiB, that as well.

        Each that is missing costs a fault, which is handled like that of a bad pointer from user space.
        """
        if not 0 <= pfn < self.space.read(self._max_pfn, self.space.word):
            return False
        page, last = self._bytes(pfn)
        try:
            self.space.touch(page)
            if page // PAGE_SIZE != last // PAGE_SIZE:
                self.space.touch(last)
        except Unmapped:
            return False
        return True

    def pfn_to_page(self, pfn: int) -> int:
        return (self.start + pfn * self.page_struct_size) & self._mask

    def page_to_pfn(self, page: int) -> int:
        pfn = self._distance(page, self.start)
        if pfn >= self.pages:
            start, end = self.window.start, self.window.end
            raise UsageError(
                f"{page:#x} is not in the virtual mem_map", hint=f"its window is {start:#x}-{end:#x}"
            )
        return pfn

    def _page_tables(self) -> int:
        """Tables that are there for the map alone.

        The directories that lead to them are not: on i386 the kernel has those of its own part from the first, for
        other areas; in long mode all but the root are new.
        """
        levels = self.space.form.levels
        own = levels[1:] if self.space.word == 8 else levels[-1:]
        return sum(table.level in own for table in self.space.tables.tables())

    def _bytes(self, pfn: int) -> tuple[int, int]:
        """Addresses of the first and the last byte of a ``struct page``."""
        page = self.pfn_to_page(pfn)
        return page, page + self.page_struct_size - 1

    def _is_mapped(self, virtual: int) -> bool:
        return self._leads_to_leaf(self.space.tables.root, 0, virtual)

    def _leads_to_leaf(self, table: int, depth: int, virtual: int) -> bool:
        """Walk as the kernel does, which reads page tables through the direct map like any other memory."""
        form = self.space.form
        level = form.levels[depth]
        index = virtual >> level.shift & ((1 << level.bits) - 1)
        entry = self.space.read(self.space.direct(table + index * form.entry_size), form.entry_size)
        if not entry & PRESENT:
            return False
        return level.is_leaf(entry) or self._leads_to_leaf(entry & level.next_table, depth + 1, virtual)

    def _populate(self, leaves: Range) -> None:
        """Frames for so many leaves, none if there are not enough; and the leaves that lead to them."""
        virtual = self.start + leaves.start * self.leaf
        wanted = len(leaves) * self.leaf // PAGE_SIZE
        pieces: list[Range] = []
        free = Memblock(self.space.memblock.free)
        for zone in self._backing:
            missing = wanted - sum(map(len, pieces))
            pieces += free.scrape(missing, zone, align=self.leaf // PAGE_SIZE)
        if sum(map(len, pieces)) < wanted:
            raise UsageError(
                f"no memory for {wanted} pages of mem_map in leaves of {self.leaf >> 10} KiB",
                hint="this kernel could not boot: more RAM, a smaller struct page or smaller leaves",
            )
        for piece in pieces:
            self.space.memblock.reserve(piece)
            self._frames[piece.start in self.space.lowmem] += len(piece)
            self._map(virtual, piece.start << PAGE_SHIFT, len(piece) << PAGE_SHIFT)
            virtual += len(piece) << PAGE_SHIFT

    def _map(self, virtual: int, physical: int, length: int) -> None:
        """Leaves for ``length`` bytes; the first in a page table brings the table, the others only fill it."""
        form = self.space.form
        span = self.space.large_page
        while length:
            self.space.tables.map(virtual, physical, size=self.leaf, flags=self._flags)
            run = min(length, span - virtual % span)
            first = translate(self.space.memory.read, self.space.tables.root, virtual, form)
            assert isinstance(first, Leaf)
            others = [first.entry + distance for distance in range(self.leaf, run, self.leaf)]
            at = first.table + (first.index + 1) * form.entry_size
            self.space.memory.write(at, struct.pack(f"<{len(others)}{form.entry}", *others))
            virtual, physical, length = virtual + run, physical + run, length - run


class Window(NamedTuple):
    """Virtual space for a virtual ``mem_map``, between lowmem and the vmalloc area."""

    start: int
    """On a boundary of the page directory."""
    size: int
    """A multiple of what a directory entry covers."""
    pages: int
    """Pfns that it has room for."""
    max_low_pfn: int
    """Where lowmem ends with it: at MAXMEM less the window, or sooner if there is no more RAM."""


def window_size(prediction: Prediction) -> tuple[int, int]:
    """``(pages, bytes)``: all pfns below ``max_pfn`` up to a whole buddy block, in whole directory entries."""
    configuration, max_pfn = prediction.configuration, prediction.layout.max_pfn
    pages = roundup(max_pfn, 1 << (configuration.max_order - 1))
    return pages, roundup(pages * configuration.page_struct_size, prediction.form.levels[-2].span)


def window(prediction: Prediction) -> Window:
    """Where the window of this machine lies, and what it leaves of lowmem.

    MAXMEM, the most lowmem that there can be, shrinks by its size; what rounding its start up costs, less than a
    directory entry, the vmalloc area above it does without.

    :raises UsageError: if nothing would be left of lowmem
    """
    configuration = prediction.configuration
    maxmem_pfn = layout.maxmem_pfn(configuration)
    max_low_pfn = prediction.layout.max_low_pfn
    directory = prediction.form.levels[-2].span
    pages, size = window_size(prediction)
    left = min(max_low_pfn, maxmem_pfn - (size >> PAGE_SHIFT))
    if left <= 0:
        raise UsageError(
            f"a window of {size >> 20} MiB for the virtual mem_map leaves nothing of {maxmem_pfn >> 8} MiB of lowmem",
            hint="less RAM, a smaller struct page, or another split of the address space",
        )
    start = roundup(configuration.page_offset + (left << PAGE_SHIFT), directory)
    return Window(start, size, pages, left)


def virtual_map(
    configuration: Configuration, *, leaf: int | None = None, backing: str = "highmem"
) -> VirtualMap:
    """The map that a kernel of this configuration would have had, with all its RAM added.

    :param leaf: bytes of the leaves: 4096, or those of a large page, which is the default
    :param backing: ``"highmem"`` memory, and lowmem when that is used up, as a page allocator asked for highmem
        would do; or ``"lowmem"`` alone
    :raises UsageError: if no kernel can have it, or it could not boot
    """
    prediction = Prediction(replace(configuration, sparsemem=False))
    sizes = sorted(prediction.form.leaf_levels)
    leaf = sizes[-1] if leaf is None else leaf
    if leaf not in sizes:
        names = " or ".join(f"{size >> 10} KiB" for size in sizes)
        raise UsageError(
            f"{prediction.form.name} paging has no leaves of {leaf} bytes", hint=f"they are of {names}"
        )
    if backing not in BACKINGS:
        raise UsageError(f"no memory is named {backing!r}", hint=f"there are {' and '.join(BACKINGS)}")
    place = window(prediction)
    space = booted(prediction, place.max_low_pfn)
    highmem = Range(place.max_low_pfn, place.pages)
    made = VirtualMap(
        space,
        configuration.page_struct_size,
        place.start,
        place.pages,
        leaf,
        [highmem, space.lowmem] if backing == "highmem" else [space.lowmem],
    )
    for ram in space.ram:
        made.add(ram.start, ram.end)
    return made

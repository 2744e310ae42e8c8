"""What every ``mem_map`` can answer, and what the answers cost.

A ``struct page`` stands for a page frame.  Three names of one thing must be turned into each other all the time, the
pfn, the address of its ``struct page`` and the address of its bytes in lowmem, and it must be known whether a pfn has
a ``struct page`` at all.  Lameter's mail of 24 September 2006 (quoted in Whitcroft's answer of the 25th) writes the
five macros down; a kind of ``mem_map`` is a choice of how the first three are computed:

* :mod:`~kvmtools.model.memmaps.flat_map`: one array for all pfns, holes included;
* :mod:`~kvmtools.model.memmaps.sparse_map`: an array per section, found by a table;
* :mod:`~kvmtools.model.memmaps.virtual_map`: one array in virtual space, with memory only behind the parts
  in use.

Source: include/asm-generic/memory_model.h, include/linux/mm.h (lowmem_page_address), arch/x86/include/asm/page.h
(virt_to_page), 6.1; include/asm-i386/page.h, 2.4.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from kvmtools.errors import UsageError
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.metered_memory import Cost, KernelSpace
from kvmtools.records import PAGE_SHIFT, Range

OPERATIONS = ("pfn_valid", "pfn_to_page", "page_to_pfn", "virt_to_page", "page_address", "read")
"""What all kinds can do with one number; ``read`` is of the first word of a ``struct page``, its flags."""


class Footprint(NamedTuple):
    """What a map takes, in bytes."""

    struct_pages: int
    """Virtual space that has ``struct page`` behind it, up to the end of the leaves or pages that hold it."""
    window: int
    """Virtual space that is set aside for the map alone, and lost to lowmem; what lies in the direct map is not."""
    lowmem: int
    """Memory below ``max_low_pfn`` that the map takes, page tables included."""
    highmem: int
    """Memory above it."""
    page_tables: int
    static: int
    """Tables in the kernel's image."""


class MemMapKind(Protocol):
    """The conversions of one kind of ``mem_map``, over simulated memory.

    Addresses are virtual.  ``struct page`` is read and written through its own virtual address and no other way.
    """

    kind: str
    """``"FLATMEM"``, ``"SPARSEMEM"`` or ``"virtual"``."""
    operations: tuple[str, ...]
    """What :meth:`cost` can be asked about."""
    space: KernelSpace
    page_struct_size: int

    @property
    def valid(self) -> tuple[Range, ...]:
        """The pfns for which :meth:`pfn_valid` is true, ascending; known by arithmetic, not by asking for each."""

    @property
    def footprint(self) -> Footprint:
        """What the map takes."""

    def pfn_valid(self, pfn: int) -> bool:
        """Whether ``pfn`` has a ``struct page``; it need not be RAM."""

    def pfn_to_page(self, pfn: int) -> int:
        """The address of its ``struct page``, computed as the kernel does: nonsense if ``pfn`` is not valid."""

    def page_to_pfn(self, page: int) -> int:
        """The pfn whose ``struct page`` is at ``page``.

        :raises UsageError: if there can be no ``struct page`` at that address; the kernel would compute nonsense
        :raises Unmapped: if the kernel would have to read the ``struct page``, and it is not mapped
        """

    def virt_to_page(self, address: int) -> int:
        """The ``struct page`` of the frame that the direct map has at ``address``.

        :raises UsageError: if that is not an address of lowmem
        """

    def page_address(self, page: int) -> int | None:
        """Where the direct map has the frame of ``page``; ``None`` for highmem.

        That is ``lowmem_page_address``.  A kernel with highmem asks ``PageHighMem(page)`` first, one read of
        ``page->flags`` that all kinds have in common and that is not counted.
        """

    def read(self, page: int, offset: int = ...) -> int:
        """The 32-bit field at ``offset`` of a ``struct page``.

        :raises Unmapped: if it is not mapped
        """

    def write(self, page: int, offset: int, value: int) -> None:
        """Change such a field.

        :raises Unmapped: if it is not mapped
        """

    def cost(self, operation: str, argument: int) -> Cost:
        """What one call of an operation takes, measured by calling it.

        :param operation: one of :attr:`operations`
        :raises UsageError: if it is not, or by the operation
        :raises Unmapped: by the operation
        """


class Conversions(MemMapKind):
    """What the three kinds have in common: all that follows from the first three macros.

    :param page_struct_size: ``sizeof(struct page)`` in bytes
    """

    operations: tuple[str, ...] = OPERATIONS

    def __init__(self, space: KernelSpace, page_struct_size: int) -> None:
        self.space = space
        self.page_struct_size = page_struct_size
        self._mask = (1 << 8 * space.word) - 1

    def virt_to_page(self, address: int) -> int:
        pfn = (address - self.space.page_offset) >> PAGE_SHIFT
        if pfn not in self.space.lowmem:
            start, end = (self.space.direct(pfn << PAGE_SHIFT) for pfn in (0, self.space.lowmem.end))
            raise UsageError(f"{address:#x} is not in lowmem", hint=f"lowmem is {start:#x}-{end:#x}")
        return self.pfn_to_page(pfn)

    def page_address(self, page: int) -> int | None:
        pfn = self.page_to_pfn(page)
        return self.space.direct(pfn << PAGE_SHIFT) if pfn in self.space.lowmem else None

    def read(self, page: int, offset: int = 0) -> int:
        self._look_at(page)
        try:
            return self.space.read(page + offset, 4)
        except Unmapped as error:
            raise self._no_struct_page(page, error) from None

    def write(self, page: int, offset: int, value: int) -> None:
        self._look_at(page)
        try:
            self.space.write(page + offset, 4, value)
        except Unmapped as error:
            raise self._no_struct_page(page, error) from None

    def cost(self, operation: str, argument: int) -> Cost:
        if operation not in self.operations:
            raise UsageError(
                f"no operation is named {operation!r}", hint=f"there are {', '.join(self.operations)}"
            )
        return self.space.measure(lambda: getattr(self, operation)(argument))

    def _look_at(self, page: int) -> None:
        """A ``struct page`` is about to be read or written; a kind that initialises them does it now."""

    def _no_struct_page(self, page: int, error: Unmapped) -> Unmapped:
        return Unmapped(error.address, f"the {self.kind} map has no struct page at {page:#x}")

    def _distance(self, page: int, base: int) -> int:
        """``page - base`` in units of ``struct page``, as C subtracts such pointers.

        :raises UsageError: if ``page`` is not the address of a whole ``struct page``
        """
        pages, rest = divmod((page - base) & self._mask, self.page_struct_size)
        if rest:
            raise UsageError(
                f"{page:#x} is no struct page: it is {rest} bytes into one",
                hint=f"the one that begins before it is at {page - rest:#x}",
            )
        return pages

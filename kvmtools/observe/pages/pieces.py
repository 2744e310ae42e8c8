"""Where the ``struct page`` of every pfn lies.

FLATMEM keeps one array of ``struct page``, indexed by pfn (``ARCH_PFN_OFFSET`` is 0 on i386); SPARSEMEM one
array per present section.  Source: ``alloc_node_mem_map`` (mm/page_alloc.c), include/linux/mmzone.h, 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kvmtools.errors import Absent, MemoryFault
from kvmtools.observe.broken import reading
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.nodes import max_numnodes, node_addresses
from kvmtools.observe.progress import booting, not_yet
from kvmtools.observe.symbols.memory_model import number_of_sections
from kvmtools.records import PAGE_SHIFT, Range

# include/linux/mmzone.h: SECTION_HAS_MEM_MAP, and the low bits of section_mem_map that hold flags.
_SECTION_HAS_MEM_MAP = 1 << 1
_SECTION_FLAGS = 0xF


@dataclass(frozen=True)
class Piece:
    """``pages`` consecutive ``struct page``, that of ``start_pfn`` at the linear-map address ``virtual``."""

    start_pfn: int
    pages: int
    virtual: int
    physical: int
    node: int | None = None
    """The node of the section, by the table for kernels whose ``page->flags`` have no room for it."""


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`kvmtools.observe.pages.memmap.observe_memmap` reads.

    FLATMEM's limit of valid pfns may be beyond the node's end: those pages are kept, too, for whoever is told how far
    the array goes on.  A limit that was overwritten may be any; no more than a block of the largest order is kept.
    """
    vmlinux = kernel.vmlinux
    size = vmlinux.sizeof("struct page")
    for piece in memmap_pieces(kernel):
        end = piece.physical + piece.pages * size
        yield Range(piece.physical, end)
        if not number_of_sections(vmlinux):
            largest = 1 << vmlinux.array_length("struct zone", "free_area") - 1
            beyond = kernel.variable("max_mapnr") - piece.pages
            yield Range(end, end + min(max(beyond, 0), largest) * size)


@reading("mem_map")
def memmap_pieces(kernel: Kernel) -> tuple[Piece, ...]:
    """Every array of ``struct page``, by pfn."""
    if not number_of_sections(kernel.vmlinux):
        return (_flat(kernel),)
    if pieces := _sections(kernel):
        return pieces
    if booting(kernel):
        raise not_yet(kernel, "mem_map")
    raise MemoryFault(kernel.address("mem_section"), "no section has a mem_map", space="virtual")


def _flat(kernel: Kernel) -> Piece:
    """The one array of FLATMEM from pfn 0 to the end of the node.

    It may go on behind that; how far is the model's to say (:func:`kvmtools.compare.whole_memmap.whole_memmap`).
    """
    vmlinux = kernel.vmlinux
    nodes = list(node_addresses(kernel).values())
    if not nodes:
        raise not_yet(kernel, "mem_map")
    node, *others = nodes
    if others:  # FLATMEM is for one node: the table of sections must be there, and its name is lost
        raise Absent("mem_section", vmlinux.build_id)
    start = kernel.member(node, "struct pglist_data", "node_start_pfn")
    end = start + kernel.member(node, "struct pglist_data", "node_spanned_pages")
    array = kernel.variable("mem_map")
    if not array and booting(kernel):
        raise not_yet(kernel, "mem_map")
    return Piece(0, end, array, kernel.physical(array))


def _sections(kernel: Kernel) -> tuple[Piece, ...]:
    """The arrays of SPARSEMEM's present sections; ``section_mem_map`` is biased by the section's first pfn."""
    vmlinux, architecture = kernel.vmlinux, kernel.architecture
    count, stride = number_of_sections(vmlinux), vmlinux.sizeof("struct mem_section")
    pages = 1 << architecture.physical_bits - PAGE_SHIFT - (count - 1).bit_length()
    table = np.frombuffer(kernel.read(kernel.address("mem_section"), count * stride), architecture.word)
    member = vmlinux.offset("struct mem_section", "section_mem_map") // architecture.word_size
    encoded = table.reshape(count, -1)[:, member]
    nodes = _section_nodes(kernel, count)
    pieces = []
    for section in np.flatnonzero(encoded & _SECTION_HAS_MEM_MAP):
        start = int(section) * pages
        biased = int(encoded[section]) & ~_SECTION_FLAGS
        virtual = (biased + start * vmlinux.sizeof("struct page")) % architecture.address_end
        pieces.append(Piece(start, pages, virtual, kernel.physical(virtual), nodes.get(int(section))))
    return tuple(pieces)


def _section_nodes(kernel: Kernel, count: int) -> dict[int, int]:
    """``section_to_node_table`` (mm/sparse.c), which exists where ``page->flags`` have no room for the node."""
    vmlinux = kernel.vmlinux
    if max_numnodes(kernel) == 1 or not vmlinux.has_symbol("section_to_node_table"):
        return {}
    size = vmlinux.sizeof("typeof(section_to_node_table)") // count
    table = kernel.array(kernel.address("section_to_node_table"), f"<u{size}", count)
    return dict(enumerate(table.tolist()))

"""``mem_map``: every ``struct page`` of the guest as columns, one row per pfn.

FLATMEM keeps one array of ``struct page``, indexed by pfn (``ARCH_PFN_OFFSET`` is 0 on i386); SPARSEMEM one
array per present section.  Both become the same columns, row number = pfn; what SPARSEMEM leaves out is zero
and lies in no :class:`Piece`.  Source: ``alloc_node_mem_map`` (mm/page_alloc.c), include/linux/mmzone.h and
asm-generic/memory_model.h, 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvmtools.errors import MemoryFault, NotYet, UsageError
from kvmtools.observe.architecture import INT, UNSIGNED_INT, Words
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.pages.page_flags import Field, FlagLayout, flag_layout, zone_names
from kvmtools.observe.pages.page_types import PageTypes, page_types
from kvmtools.observe.pages.pieces import Piece, memmap_pieces, needs
from kvmtools.observe.partial import Lookup, Partial, exchanged, known
from kvmtools.observe.symbols.memory_model import number_of_sections

__all__ = ["MemMap", "Piece", "needs", "observe_memmap"]

Integer = TypeVar("Integer", bound=np.integer[Any])

_MEMBERS = ("flags", "_refcount", "_mapcount", "private", "lru", "mapping", "index")
# Pages turned into columns at a time: 8,192 of 32 bytes stay in a CPU's second-level cache.
_BATCH = 8192
# include/linux/page-flags.h: the low bits of page->mapping, and of compound_head in a tail page.
MAPPING_ANON = 1
MAPPING_MOVABLE = 2
MAPPING_FLAGS = MAPPING_ANON | MAPPING_MOVABLE
TAIL = 1


@dataclass(frozen=True, eq=False)
class MemMap(Partial):
    """Columns of shape ``(length,)``, indexed by pfn; ``mapcount`` is raw, -1 for none."""

    pieces: tuple[Piece, ...]
    page_size: int
    """``sizeof(struct page)``, bytes."""
    max_mapnr: int | None
    """The kernel's own limit of valid pfns (``pfn_valid``), raw; ``None`` with SPARSEMEM, which does not set it."""
    words: Words
    """All of it: ``words[i]`` is the column of the ``i``-th word of ``struct page``."""
    offsets: dict[str, int]
    """Offset in bytes of the members that have a column."""
    layout: FlagLayout
    types: PageTypes
    zone_names: tuple[str, ...]

    @property
    def length(self) -> int:
        """Number of pfns with a row."""
        return int(self.words.shape[1])

    @property
    def base(self) -> int:
        """Virtual address of the first ``struct page``."""
        return self.pieces[0].virtual

    @property
    def physical(self) -> int:
        """Physical address of the first ``struct page``."""
        return self.pieces[0].physical

    def column(self, member: str) -> Words:
        """The word at a member's offset."""
        return self.word_at(self.offsets[member])

    def word_at(self, offset: int) -> Words:
        """The word at an offset in bytes."""
        word: Words = self.words[offset // self.words.itemsize]
        return word

    def part_at(self, offset: int, kind: np.dtype[Integer]) -> NDArray[Integer]:
        """What lies at an offset in bytes: a word, or a part of one."""
        per_word = self.words.itemsize // kind.itemsize
        return self.word_at(offset).view(kind)[offset // kind.itemsize % per_word :: per_word]

    @property
    def flags(self) -> Words:
        """``page->flags``."""
        return self.column("flags")

    @property
    def refcount(self) -> NDArray[np.int32]:
        """``page->_refcount``."""
        return self.part_at(self.offsets["_refcount"], INT)

    @property
    def mapcount(self) -> NDArray[np.int32]:
        """``page->_mapcount``, -1 if no page table of a process maps the page; the same word as ``page_type``."""
        return self.part_at(self.offsets["_mapcount"], INT)

    @property
    def page_type(self) -> NDArray[np.uint32]:
        """``page->page_type``."""
        return self.mapcount.view(UNSIGNED_INT)

    @property
    def private(self) -> Words:
        """``page->private``; in the buddy system, the order."""
        return self.column("private")

    @property
    def lru_next(self) -> Words:
        """``page->lru.next``, of a tail page ``compound_head``."""
        return self.column("lru")

    @property
    def lru_prev(self) -> Words:
        """``page->lru.prev``."""
        return self.word_at(self.offsets["lru"] + self.words.itemsize)

    @property
    def mapping(self) -> Words:
        """``page->mapping``, flags in its low bits."""
        return self.column("mapping")

    @property
    def index(self) -> Words:
        """``page->index``."""
        return self.column("index")

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Which pfns have a ``struct page``; with SPARSEMEM the words of the others are 0 and mean nothing."""
        valid = np.zeros(self.length, np.bool_)
        for piece in self.pieces:
            valid[piece.start_pfn : piece.start_pfn + piece.pages] = True
        return valid

    @cached_property
    def zone(self) -> NDArray[np.uint8]:
        """Zone number in ``flags``.

        :raises UsageError: if it was not told where that is
        """
        return self._field(self.layout.zone).astype(np.uint8)

    @cached_property
    def section(self) -> NDArray[np.uint16] | None:
        """Section number in ``flags``; ``None`` with FLATMEM, and if it was not told where it is."""
        field = self.layout.section
        return self._field(field).astype(np.uint16) if field and field.width else None

    @cached_property
    def node(self) -> NDArray[np.uint16] | None:
        """Node number, in ``flags`` or by the section; ``None`` in a kernel for one node."""
        field = self.layout.node
        if field and field.width:
            return self._field(field).astype(np.uint16)
        if any(piece.node is None for piece in self.pieces):
            return None
        nodes = np.zeros(self.length, np.uint16)
        for piece in self.pieces:
            nodes[piece.start_pfn : piece.start_pfn + piece.pages] = piece.node or 0
        return nodes

    @cached_property
    def buddy(self) -> NDArray[np.bool_]:
        """``PageBuddy``: heads of free blocks."""
        return self.types.of(self.page_type, "buddy")

    @cached_property
    def buddy_order(self) -> NDArray[np.uint8]:
        """Order of the free block that the page heads; 0 for every other page, 255 for anything larger."""
        order = np.zeros(self.length, np.uint8)
        order[self.buddy] = np.minimum(self.private[self.buddy], 255)
        return order

    @cached_property
    def in_buddy_block(self) -> NDArray[np.bool_]:
        """Pages inside a block that some ``PageBuddy`` page heads, the heads included."""
        heads = np.flatnonzero(self.buddy)
        ends = np.minimum(heads + (np.int64(1) << np.minimum(self.buddy_order[heads], 31)), self.length)
        edges = np.zeros(self.length + 1, np.int32)
        edges[heads] += 1  # heads are distinct, ends need not be
        np.subtract.at(edges, ends, 1)
        inside: NDArray[np.bool_] = np.cumsum(edges[:-1], dtype=np.int32) > 0
        return inside

    @cached_property
    def tail(self) -> NDArray[np.bool_]:
        """``PageTail``: second and later pages of compound pages."""
        tails: NDArray[np.bool_] = (self.lru_next & TAIL) != 0
        return tails

    @cached_property
    def head(self) -> NDArray[np.int64]:
        """``compound_head``: pfn of the head page, of a page that is no tail its own; -1 if it leads nowhere."""
        heads = np.arange(self.length, dtype=np.int64)
        tails = np.flatnonzero(self.tail)
        heads[tails] = self.page_to_pfn(self.lru_next[tails] - TAIL)
        return heads

    @property
    def flag_names(self) -> dict[str, int]:
        """Bit number of every named flag."""
        return self.layout.names

    def has_flag(self, *names: str) -> NDArray[np.bool_]:
        """Pages with the flag; of several names the first that this kernel knows, if any."""
        pages: NDArray[np.bool_] = (self.flags & self.layout.bit(*names)) != 0
        return pages

    def page_to_pfn(self, virtual: ArrayLike) -> NDArray[np.int64]:
        """pfns of ``struct page`` addresses; -1 for what is no address of one, or of one without a row."""
        addresses = np.asarray(virtual).astype(np.int64)
        pfns = np.full(addresses.shape, -1, np.int64)
        for piece in self.pieces:
            offset = addresses - piece.virtual
            row, rest = offset // self.page_size, offset % self.page_size
            inside = (row >= 0) & (row < min(piece.pages, self.length - piece.start_pfn)) & (rest == 0)
            pfns[inside] = row[inside] + piece.start_pfn
        return pfns

    def pfn_to_page(self, pfn: int) -> int:
        """Virtual address of the ``struct page`` of a pfn.

        :raises IndexError: if there is none
        """
        piece = self._piece(pfn)
        return piece.virtual + (pfn - piece.start_pfn) * self.page_size

    def _piece(self, pfn: int) -> Piece:
        for piece in self.pieces:
            if piece.start_pfn <= pfn < min(piece.start_pfn + piece.pages, self.length):
                return piece
        raise IndexError(f"pfn {pfn:#x} has no struct page")

    def page(self, pfn: int) -> dict[str, Any]:
        """Everything about one page, by the kernel's names; for a :class:`Partial`.  Decodes this row only.

        :raises IndexError: if the pfn has no ``struct page``
        """
        piece = self._piece(pfn)

        def word(member: str) -> int:
            return int(self.column(member)[pfn])

        def types() -> tuple[str, ...]:
            return self.types.names_of(int(self.page_type[pfn]))

        def tail() -> bool:
            return bool(word("lru") & TAIL)

        read: dict[str, Callable[[], Any]] = {
            "pfn": lambda: pfn,
            "page": lambda: piece.virtual + (pfn - piece.start_pfn) * self.page_size,
            "flags": lambda: word("flags"),
            "flag_names": lambda: self.layout.names_of(word("flags")),
            "zone": lambda: self.zone_name(pfn),
            "node": lambda: self._number("node", word("flags"), piece.node),
            "section": lambda: self._number("section", word("flags"), None),
            "refcount": lambda: int(self.refcount[pfn]),
            "mapcount": lambda: None if types() else int(self.mapcount[pfn]) + 1,
            "page_type": lambda: int(self.page_type[pfn]),
            "type_names": types,
            "buddy_order": lambda: min(word("private"), 255) if "buddy" in types() else None,
            "private": lambda: word("private"),
            "mapping": lambda: word("mapping") & ~MAPPING_FLAGS,
            "anonymous": lambda: bool(word("mapping") & MAPPING_ANON) and not tail(),
            "index": lambda: word("index"),
            "lru_next": lambda: word("lru"),
            "lru_prev": lambda: int(self.lru_prev[pfn]),
            "compound_head": lambda: int(self.page_to_pfn(word("lru") - TAIL)) if tail() else None,
        }
        return {name: known(each, "struct page") for name, each in read.items()}

    def _number(self, name: str, flags: int, otherwise: int | None) -> int | None:
        """One of the fields of one page's flags; ``otherwise`` if they have none, or nobody told where."""
        with suppress(MemoryFault, NotYet):
            field: Field | None = getattr(self.layout, name)
            return field.of(flags) if field and field.width else otherwise
        return otherwise

    def zone_name(self, pfn: int) -> str:
        """Name of the zone in the flags of one page; ``"?"`` if it was not told where that is."""
        zone = self._number("zone", int(self.flags[pfn]), None)
        if zone is None:
            return "?"
        return self.zone_names[zone] if zone < len(self.zone_names) else f"#{zone}"

    def _field(self, field: Field | None) -> Words:
        if field is None:
            raise UsageError("where page->flags keep it, only the model says", hint="ask memmap()")
        # A field of no width may sit behind the last bit, which no shift of a word reaches.
        shift = self.words.dtype.type(min(field.shift, 8 * self.words.itemsize - 1))
        found: Words = (self.flags >> shift) & self.words.dtype.type(field.mask)
        return found


def observe_memmap(kernel: Kernel, pages: int | None = None) -> MemMap:
    """Read the whole ``mem_map``.

    :param pages: how many entries FLATMEM's array has, by the word of who knows it; up to the node's end if not given
    :raises MemoryFault: if part of it is not RAM, or was not captured
    :raises SymbolsError: if the kernel has neither ``mem_map`` nor ``mem_section``
    """
    page_size = kernel.vmlinux.sizeof("struct page")
    pieces = memmap_pieces(kernel)
    if pages is not None:
        pieces = (replace(pieces[0], pages=pages),)
    length = _length(pieces, _max_mapnr(kernel))
    counts = [max(0, min(piece.pages, length - piece.start_pfn)) for piece in pieces]
    # All is looked at before room is made for it: a length that was overwritten may be any.
    views = [
        kernel.memory.view(piece.physical, pages * page_size)
        for piece, pages in zip(pieces, counts, strict=True)
    ]
    word = kernel.architecture.word
    words = np.empty((page_size // word.itemsize, length), word)
    if len(pieces) > 1 or pieces[0].start_pfn:
        words[:] = 0
    for piece, pages, view in zip(pieces, counts, views, strict=True):
        rows = np.frombuffer(view, word).reshape(pages, len(words))
        _transpose(rows, words[:, piece.start_pfn : piece.start_pfn + pages])
    return _memmap(kernel, pieces, words)


def page_at(kernel: Kernel, pfn: int, layout: FlagLayout | None = None) -> dict[str, Any]:
    """:meth:`MemMap.page` of one pfn, when no other page is wanted: reads one ``struct page``.

    :param layout: the flags, told where they keep zone, node and section
    :raises IndexError: if the pfn has no ``struct page``
    """
    frame = _without_words(kernel)
    row = np.frombuffer(kernel.read(frame.pfn_to_page(pfn), frame.page_size), kernel.architecture.word)
    # One page stands for all of them; only its own row is asked for.
    words = np.broadcast_to(row[:, np.newaxis], frame.words.shape)
    return exchanged(frame, words=words, layout=layout or frame.layout).page(pfn)


def page_pfn(kernel: Kernel, virtual: int) -> int:
    """pfn of the ``struct page`` at ``virtual``; reads none.

    :raises IndexError: if no ``struct page`` begins there
    """
    pfn = int(_without_words(kernel).page_to_pfn(virtual))
    if pfn < 0:
        raise IndexError(f"no struct page begins at {virtual:#x}")
    return pfn


def _without_words(kernel: Kernel) -> MemMap:
    """A ``mem_map`` of the right shape that holds one word for all: for arithmetic, at no cost.

    Which pfns FLATMEM has a page for, the kernel says itself: ``pfn_valid``.
    """
    pieces, limit = memmap_pieces(kernel), _max_mapnr(kernel)
    if limit is not None:
        pieces = (replace(pieces[0], pages=limit),)
    word = kernel.architecture.word
    shape = (kernel.vmlinux.sizeof("struct page") // word.itemsize, _length(pieces, limit))
    return _memmap(kernel, pieces, np.broadcast_to(word.type(0), shape))


def _memmap(kernel: Kernel, pieces: tuple[Piece, ...], words: Words) -> MemMap:
    vmlinux = kernel.vmlinux
    return MemMap(
        pieces, vmlinux.sizeof("struct page"), _max_mapnr(kernel), words, _offsets(kernel),
        flag_layout(vmlinux), known(lambda: page_types(vmlinux), "mem_map"),
        known(lambda: zone_names(vmlinux), "mem_map"),
    )  # fmt: skip


def _max_mapnr(kernel: Kernel) -> int | None:
    return None if number_of_sections(kernel.vmlinux) else kernel.variable("max_mapnr")


def _length(pieces: tuple[Piece, ...], max_mapnr: int | None) -> int:
    room = max(piece.start_pfn + piece.pages for piece in pieces)
    return room if max_mapnr is None else min(max_mapnr, room)


def _transpose(rows: Words, columns: Words) -> None:
    """``columns[:] = rows.T``, in batches: a stride through all of memory for every column would be slow."""
    for start in range(0, len(rows), _BATCH):
        columns[:, start : start + _BATCH] = rows[start : start + _BATCH].T


def _offsets(kernel: Kernel) -> dict[str, int]:
    vmlinux = kernel.vmlinux

    def offset(name: str) -> int:
        # 6.16 renamed page->index.
        names = (name, "__folio_index") if name == "index" else (name,)
        return vmlinux.offset("struct page", vmlinux.which_member("struct page", *names))

    return Lookup(offset, _MEMBERS)

"""Pages, zones and the slots of pkmap of an i386 kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drgn import IntegerLike, Object, Program
from drgn.helpers.common.prog import takes_program_or_default

from kvmtools.api.adopted import kernel_of

if TYPE_CHECKING:
    from kvmtools.api.page_use import PageUse
    from kvmtools.api.pages import Page
    from kvmtools.api.zones import Zones

__all__ = (
    "FreeBlock",
    "KmapSlot",
    "for_each_free_block",
    "kernel_zones",
    "page_in_full",
    "page_state",
    "page_states",
    "pkmap_slots",
)


@dataclass(frozen=True, slots=True)
class KmapSlot:
    """One slot of pkmap (mm/highmem.c)."""

    index: int
    """Which: 0 to ``LAST_PKMAP - 1``."""
    address: Object
    """``void *`` that the slot is for."""
    count: int
    """``pkmap_count[index]``: 0 free, 1 mapped and used by nobody until the next flush, *n* in use by *n* - 1."""
    pte: int
    """Raw PTE; 0 if the slot is empty."""
    page: Object | None
    """``struct page *`` that is mapped there; ``None`` if the PTE is not present."""


@dataclass(frozen=True, slots=True)
class FreeBlock:
    """One block of the buddy system."""

    page: Object
    """``struct page *`` of its first page."""
    pfn: int
    order: int
    """It has ``1 << order`` pages."""
    migratetype: str
    """``"MOVABLE"``, ..."""
    zone: str
    """``"NORMAL"``, ...; ``"node 1 NORMAL"`` where there are several nodes."""


@takes_program_or_default
def pkmap_slots(prog: Program, *, used: bool = False) -> Iterator[KmapSlot]:
    """
    Iterate over the slots of pkmap, through which ``kmap()`` shows highmem pages: 512 with PAE, else 1024.

    >>> [slot.index for slot in pkmap_slots(prog) if slot.count > 1][:3]
    [1, 3, 4]

    :param used: Only slots that are counted or mapped.
    :return: Iterator of :class:`KmapSlot`, all of one moment; none if the kernel has no CONFIG_HIGHMEM.
    :raises kvmtools.SymbolsError: if this kernel lacks what is needed (``pkmap_count``)
    """
    slots = kernel_of(prog).pkmap()
    if slots is None:
        return
    in_use = {each.slot: each for each in slots.used}
    base = slots.area.base
    rows = zip(slots.area.counts.tolist(), slots.area.ptes.tolist(), strict=True)
    for index, (count, pte) in enumerate(rows):
        found = in_use.get(index)
        if found is None and used:
            continue
        page = None if found is None or found.page is None else _page(prog, found.page)
        address = _pointer(prog, "void", 0 if base is None else base + (index << 12))
        yield KmapSlot(index, address, count, pte, page)


@takes_program_or_default
def page_in_full(prog: Program, page: IntegerLike) -> Page:
    """
    Get one ``struct page`` with its flags, zone, counts and type spelled out.

    >>> page_in_full(prog["mem_map"] + 5).zone
    'DMA'

    :param page: ``struct page *``, or a pfn
    :return: :class:`kvmtools.Page`
    :raises kvmtools.UsageError: if there is no such page
    """
    return kernel_of(prog).page(_number(page))


@takes_program_or_default
def page_state(prog: Program, page: IntegerLike) -> str:
    """
    Get what a page is doing.

    This decodes all of ``mem_map``: for many pages, ask :func:`page_states` once.

    >>> page_state(prog["mem_map"] + 1)
    'reserved'

    :param page: ``struct page *``, or a pfn
    :return: ``"free"`` (in the buddy system), ``"per-cpu"`` (free on a CPU's list), ``"reserved"``, ``"slab"``,
        ``"table"`` (a page table), ``"anonymous"``, ``"cache"`` (of files, shared memory), or ``"other"``
    :raises kvmtools.UsageError: if there is no such page
    """
    kernel = kernel_of(prog)
    use = kernel.memmap()
    return use.names[int(use.states[kernel.page(_number(page)).pfn])]


@takes_program_or_default
def page_states(prog: Program) -> PageUse:
    """
    Get what every page is doing, as NumPy columns.

    >>> page_states(prog).total["free"]
    1537956

    :return: :class:`kvmtools.PageUse`: ``states`` is an index into ``names`` for each pfn, ``memmap`` has the members
        of ``struct page`` as columns.
    """
    return kernel_of(prog).memmap()


@takes_program_or_default
def kernel_zones(prog: Program) -> Zones:
    """
    Get all zones: spans, watermarks, free lists, the CPUs' lists.

    >>> [zone.name for zone in kernel_zones(prog)]
    ['DMA', 'NORMAL', 'HIGHMEM', 'MOVABLE']

    :return: :class:`kvmtools.Zones`; sizes are in pages of 4 KiB.
    """
    return kernel_of(prog).zones()


@takes_program_or_default
def for_each_free_block(prog: Program, *, zone: str | None = None) -> Iterator[FreeBlock]:
    """
    Iterate over the free blocks of the buddy system (``zone->free_area``), by zone and order.

    :param zone: Only this zone, by :attr:`FreeBlock.zone`.
    :return: Iterator of :class:`FreeBlock`, all of one moment.
    """
    kernel = kernel_of(prog)
    memmap = kernel.memmap().memmap
    for each in kernel.zones():
        if zone not in (None, each.place.label):
            continue
        for pages in (pages for area in each.free_area for pages in area.lists):
            for pfn in pages.pages.tolist():
                page = _page(prog, memmap.pfn_to_page(pfn))
                yield FreeBlock(page, pfn, pages.order, pages.migratetype, each.place.label)


def _page(prog: Program, address: int) -> Object:
    return _pointer(prog, "struct page", address)


def _pointer(prog: Program, target: str, address: int) -> Object:
    """Of 4 bytes, which a program that was opened from an ELF64 core would not think of."""
    return Object(prog, prog.pointer_type(prog.type(target), 4), value=address)


def _number(value: IntegerLike) -> int:
    return int(value.value_()) if isinstance(value, Object) else int(value)

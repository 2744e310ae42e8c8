"""``mem_map``: which pfns have a ``struct page``, and what its untouched fields hold.

Source: mm/page_alloc.c (alloc_node_mem_map, memmap_init, init_unavailable_range, __init_single_page), 5.10 and 6.1,
mm/mm_init.c, 6.12 and 7.2, free_area_init_core, 2.4.18, memmap_init_zone, 2.6.18; include/linux/mmzone.h.  The
alignment of FLATMEM's map is Whitcroft's point of 25 September 2006 on linux-mm: the buddy allocator may
look at any page of the largest block that holds a page of RAM, so all of them must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.eras import Era
from kvmtools.model.eras.dialects import HoleZone
from kvmtools.model.memory.ram import Ram, joined
from kvmtools.model.pages.flags_layout import FlagsLayout, flags_layout, section_bits
from kvmtools.model.rounding import div_round_up, pfn_up, roundup
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, PredictedLayout, Range, ZoneSpan


@dataclass(frozen=True, slots=True)
class ZoneRange:
    """Pfns ``[start, end)`` of zone ``zone`` of node ``node``; ``ram`` says RAM or hole."""

    start: int
    end: int
    zone: int
    ram: bool
    node: int = 0


@dataclass(frozen=True, slots=True)
class HoleFields:
    """What the ``struct page`` of a hole holds, from boot until power-off."""

    refcount: int
    mapcount: int | None
    """``None`` in 2.4, where a page does not count its mappings."""
    flags: frozenset[str] = frozenset({"reserved"})
    """Those that every hole has; some have ``reserved`` in any case, such as the BIOS area."""


@dataclass(frozen=True, slots=True)
class ExpectedMemMap:
    """The array, or with SPARSEMEM its sections."""

    flags: FlagsLayout
    page_struct_size: int
    max_order: int
    valid: tuple[Range, ...]
    """Pfns with an initialised ``struct page``.  FLATMEM's ``pfn_valid`` may say yes to more: ``max_mapnr`` counts
    ACPI's tables behind the last RAM too."""
    zones: tuple[ZoneRange, ...]
    """The zone of every pfn that boot gave one, ascending; since 5.10 those are all valid ones."""
    spans: tuple[ZoneSpan, ...]
    length: int | None
    """Entries that were allocated, from pfn 0; ``None`` with SPARSEMEM."""
    max_mapnr: int | None
    image: Range
    """Pfns of the kernel's image up to its init sections: reserved for good (memblock_reserve in setup_arch)."""
    hole: HoleFields

    @property
    def size(self) -> int | None:
        """Bytes that were allocated."""
        return None if self.length is None else self.length * self.page_struct_size

    @property
    def tail(self) -> Range:
        """Entries beyond the valid ones: allocated to fill the last block, holding anything.

        7.2 has none: there the entries up to the end of the block are initialised.
        """
        if self.length is None:
            return Range(0, 0)
        return Range(self.valid[0].end, self.length)

    def buddy_fault(self, pfn: int, order: int) -> str:
        """Why no free block of ``order`` can start at ``pfn``; empty if one can (__free_one_page)."""
        if not 0 <= order < self.max_order:
            return f"order {order} is not below {self.max_order}"
        end = pfn + (1 << order)
        if pfn % (1 << order):
            return f"pfn {pfn:#x} is not aligned to its order {order}"
        if not any(span.start_pfn <= pfn and end <= span.end_pfn for span in self.spans):
            return f"block [{pfn:#x}, {end:#x}) does not lie in one zone"
        return ""


def predict(
    configuration: Configuration,
    layout: PredictedLayout,
    ram: Ram,
    registered: Ram,
    node: Ram,
    spans: tuple[ZoneSpan, ...],
) -> ExpectedMemMap:
    """The map of this kernel.

    :param ram: what really is RAM
    :param registered: what the kernel was told of it, as :func:`kvmtools.model.memory.zones.registered` says
    :param node: what zones are made of, as :func:`kvmtools.model.memory.zones.node` says
    :raises UsageError: if FLATMEM's array could not begin at pfn 0
    """
    era = eras.shown(configuration.marks)
    length = None
    if configuration.sparsemem:
        size = pages_per_section(configuration)
        valid = tuple(
            joined(Range(n * size, (n + 1) * size) for n in present_sections(configuration, registered))
        )
    else:
        length = _flat_length(configuration, era, node, spans)
        assert layout.max_mapnr is not None
        initialised = length if era.tail_initialised else max(span.end_pfn for span in spans)
        valid = (Range(0, min(layout.max_mapnr, initialised)),)
    zones = _zones_by_span if era.hole_zone is HoleZone.SPANNING else _zones_by_following
    ranges = tuple(zones(ram, spans, valid))
    hole = HoleFields(refcount=era.hole_refcount, mapcount=era.hole_mapcount)
    if not configuration.sparsemem and not era.flat_holes_initialised:
        # Zeros, as memblock hands them out.
        ranges = tuple(each if each.ram else replace(each, zone=0) for each in ranges)
        hole = HoleFields(refcount=0, mapcount=0, flags=frozenset())
    return ExpectedMemMap(
        flags=flags_layout(configuration),
        page_struct_size=configuration.page_struct_size,
        max_order=configuration.max_order,
        valid=valid,
        zones=ranges,
        spans=spans,
        length=length,
        max_mapnr=layout.max_mapnr,
        image=_image(configuration),
        hole=hole,
    )


def _image(configuration: Configuration) -> Range:
    """Whole pages of text, rodata and data; what lies behind ``__init_begin`` is freed in part."""
    sections, base = configuration.image.sections, configuration.page_offset
    if not {"_text", "__init_begin"} <= sections.keys():
        return Range(0, 0)
    start, end = sections["_text"] - base, sections["__init_begin"] - base
    return Range(pfn_up(start), end // PAGE_SIZE)


def _flat_length(configuration: Configuration, era: Era, node: Ram, spans: tuple[ZoneSpan, ...]) -> int:
    """Entries of FLATMEM's array; 2.4 does not round to blocks but has one to spare."""
    block = 1 << (configuration.max_order - 1)
    if node.ranges[0].start >= block:
        raise UsageError(
            f"RAM that begins at pfn {node.ranges[0].start:#x} leaves mem_map without pfn 0",
            hint="FLATMEM on i386 needs RAM in the first 4 MiB; look at memmap=",
        )
    end = node.ranges[-1].end if era.mem_map_spans_ram else max(span.end_pfn for span in spans)
    return roundup(end, block) if era.mem_map_rounded else end + 1


def _zones_by_following(
    ram: Ram, spans: tuple[ZoneSpan, ...], valid: tuple[Range, ...]
) -> Iterator[ZoneRange]:
    """RAM belongs to the zone that spans it; a hole to the zone of the RAM after it, the last to the last."""
    pieces = sorted(
        (
            ZoneRange(r.start, r.end, zone, True, span.node)
            for zone, span in _numbered(spans)
            for r in ram.within(span.start_pfn, span.end_pfn)
        ),
        key=lambda piece: piece.start,
    )
    hole_start = 0
    for piece in pieces:
        yield from _hole(hole_start, piece.start, piece, valid)
        yield piece
        hole_start = piece.end
    yield from _hole(hole_start, valid[-1].end, pieces[-1], valid)


def _numbered(spans: tuple[ZoneSpan, ...]) -> Iterator[tuple[int, ZoneSpan]]:
    """Every span and its zone's number: the same zones follow one another in every node."""
    for _node, zones in groupby(spans, lambda span: span.node):
        yield from enumerate(zones)


def _zones_by_span(ram: Ram, spans: tuple[ZoneSpan, ...], valid: tuple[Range, ...]) -> Iterator[ZoneRange]:
    """Every page, RAM or not, belongs to the zone that spans it."""
    for index, span in enumerate(spans):
        at = span.start_pfn
        for r in ram.within(at, span.end_pfn):
            piece = ZoneRange(r.start, r.end, index, True)
            yield from _hole(at, r.start, piece, valid)
            yield piece
            at = r.end
        yield from _hole(at, span.end_pfn, ZoneRange(at, at, index, True), valid)


def _hole(start: int, end: int, of: ZoneRange, valid: tuple[Range, ...]) -> Iterator[ZoneRange]:
    """What of it is valid, with the node and the zone of a piece of RAM."""
    for v in valid:
        if max(start, v.start) < min(end, v.end):
            yield replace(of, start=max(start, v.start), end=min(end, v.end), ram=False)


def pages_per_section(configuration: Configuration) -> int:
    """``PAGES_PER_SECTION``.

    :raises UsageError: if the era has no SPARSEMEM
    """
    return 1 << (section_bits(configuration)[0] - PAGE_SHIFT)


def present_sections(configuration: Configuration, ram: Ram) -> tuple[int, ...]:
    """Numbers of the sections that hold RAM: those have a map, holes inside included.

    :raises UsageError: if the era has no SPARSEMEM
    """
    size_bits, physical_bits = section_bits(configuration)
    size = 1 << (size_bits - PAGE_SHIFT)
    found: dict[int, None] = {}
    for r in ram.below(1 << (physical_bits - PAGE_SHIFT)).ranges:
        found.update(dict.fromkeys(range(r.start // size, div_round_up(r.end, size))))
    return tuple(found)

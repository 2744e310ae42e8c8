"""Small worlds for the buddy allocator: three mem_maps as the model builds them, and a tiny one of a dictionary.

They are small by scale, not by kind: a ``struct page`` of 2048 bytes puts two on a page of 4 KiB, and a largest block
of 8 or 16 pages is to those what 1024 pages are to the 128 of a real one.
"""

from __future__ import annotations

from collections.abc import Iterable

from every_era import altered

from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.bugs import Unmapped
from kvmtools.model.eras import Era
from kvmtools.model.memmaps.conversions import Footprint, MemMapKind
from kvmtools.model.memmaps.flat_map import FlatMap
from kvmtools.model.memmaps.metered_memory import Cost, KernelSpace
from kvmtools.model.memmaps.sparse_map import SparseMap
from kvmtools.model.memmaps.virtual_map import VirtualMap
from kvmtools.model.memory.ram import Ram
from kvmtools.model.pages.flags_layout import FlagsLayout
from kvmtools.model.paging.forms import non_pae
from kvmtools.records import Range, ZoneSpan

FLAGS = FlagsLayout(32, 0, 30, 2)
"""FLATMEM with three or four zones: FACTS C.4."""
SPARSE_FLAGS = FlagsLayout(24, 8, 22, 2)
MARKED = ("2.6.18", "2.6.24", "2.6.32", "5.10", "6.1", "6.12", "7.2")
"""The eras that mark a free block in its struct page; 2.4 has a bitmap."""
SINCE_5_10 = ("5.10", "6.1", "6.12", "7.2")
PAGE_SIZE_OF_STRUCT = 2048
MEMORY = Range(0, 0x2000)
"""Pfns of RAM in which the maps themselves live; the zones under test are another matter."""


class TinyMap:
    """A mem_map that is nothing but a dictionary; ``struct page`` exist for ``present`` pfns.

    :param valid: what ``pfn_valid`` says, if that is not the same
    """

    kind = "tiny"
    operations: tuple[str, ...] = ("pfn_valid",)
    space: KernelSpace
    page_struct_size = 64
    base = 0x10000

    def __init__(self, present: Iterable[int], valid: Iterable[int] | None = None) -> None:
        self.present = frozenset(present)
        self.valid_pfns = self.present if valid is None else frozenset(valid)
        self.words: dict[int, int] = {}

    @property
    def valid(self) -> tuple[Range, ...]:
        return tuple(Range(pfn, pfn + 1) for pfn in sorted(self.valid_pfns))

    @property
    def footprint(self) -> Footprint:
        return Footprint(0, 0, 0, 0, 0, 0)

    def pfn_valid(self, pfn: int) -> bool:
        return pfn in self.valid_pfns

    def pfn_to_page(self, pfn: int) -> int:
        return self.base + pfn * self.page_struct_size

    def page_to_pfn(self, page: int) -> int:
        return (page - self.base) // self.page_struct_size

    def virt_to_page(self, address: int) -> int:
        raise NotImplementedError

    def page_address(self, page: int) -> int | None:
        raise NotImplementedError

    def read(self, page: int, offset: int = 0) -> int:
        return self.words.get(self._address(page, offset), 0)

    def write(self, page: int, offset: int, value: int) -> None:
        assert 0 <= value < 1 << 32
        self.words[self._address(page, offset)] = value

    def cost(self, operation: str, argument: int) -> Cost:
        assert operation == "pfn_valid"
        return Cost(references=3 + argument % 2, tlb_entries=1, walk_references=7)

    def _address(self, page: int, offset: int) -> int:
        if self.page_to_pfn(page) not in self.present:
            raise Unmapped(page, "the tiny map has a hole there")
        return page + offset


def small(name: str, max_order: int) -> Era:
    """That era, with fewer orders."""
    return altered(name, max_order=max_order)


def space() -> KernelSpace:
    """32 MiB of lowmem in 4 KiB leaves."""
    return KernelSpace(
        non_pae(),
        (MEMORY,),
        page_offset=0xC0000000,
        mapped=Ram((MEMORY,), MEMORY.end),
        may_be_large=lambda start: False,
    )


def flat(end: int, max_order: int) -> FlatMap:
    """As alloc_node_mem_map() does: an array to the end of the last block, valid to the last page."""
    block = 1 << (max_order - 1)
    return FlatMap(space(), PAGE_SIZE_OF_STRUCT, -(-end // block) * block, end)


def sparse(ram: Iterable[Range], section_pages: int) -> SparseMap:
    """Sections where there is any RAM."""
    sections = sorted({pfn // section_pages for r in ram for pfn in range(r.start, r.end)})
    return SparseMap(space(), PAGE_SIZE_OF_STRUCT, sections, section_pages, SPARSE_FLAGS)


def virtual(ram: Iterable[Range], granule: int = 1, size: int = PAGE_SIZE_OF_STRUCT) -> VirtualMap:
    """A window behind 768 MiB, populated in 4 KiB leaves for whole groups of ``granule`` pfns that hold RAM."""
    mem_map = VirtualMap(space(), size, 0xF0000000, 0x4000, 4096, (MEMORY,))
    for r in ram:
        mem_map.add(r.start // granule * granule, -(-r.end // granule) * granule)
    return mem_map


def booted(
    mem_map: MemMapKind,
    ram: Iterable[Range],
    era: Era,
    *,
    zones: Iterable[ZoneSpan] = (),
    flags: FlagsLayout = FLAGS,
    holes_in_zone: bool = False,
    debug_vm: bool = False,
) -> Buddy:
    """All of ``ram`` free, in one zone from the first page to the last unless ``zones`` says otherwise."""
    ram = tuple(ram)
    zones = tuple(zones) or (ZoneSpan("NORMAL", ram[0].start, ram[-1].end),)
    buddy = Buddy(mem_map, zones, era=era, flags=flags, holes_in_zone=holes_in_zone, debug_vm=debug_vm)
    buddy.memmap_init()
    buddy.free_all(ram)
    return buddy


def tiny(name: str = "6.1", pages: int = 16, max_order: int = 4, *, debug_vm: bool = False) -> Buddy:
    """All pages of one zone from pfn 0 free."""
    end = -(-pages >> max_order - 1) << max_order - 1
    return booted(TinyMap(range(end)), (Range(0, pages),), small(name, max_order), debug_vm=debug_vm)


def kind(name: str, ram: Iterable[Range], max_order: int) -> tuple[MemMapKind, FlagsLayout]:
    """A map by name, for parameters: ``granular`` is a virtual one that is populated block by block."""
    ram = tuple(ram)
    if name == "flat":
        return flat(ram[-1].end, max_order), FLAGS
    if name == "sparse":
        return sparse(ram, 4 << max_order), SPARSE_FLAGS
    return virtual(ram, 1 << (max_order - 1) if name == "granular" else 1), FLAGS

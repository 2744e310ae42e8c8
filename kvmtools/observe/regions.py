"""What the kernel calls the place that a virtual address lies in.

Regions are half-open and never overlap.  Where one is made of slots (pkmap, the fixmap),
:meth:`Regions.describe` names the slot.  Source: arch/x86/include/asm/pgtable_32_areas.h, fixmap.h and
vmlinux.lds.S of 6.1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Layout

if TYPE_CHECKING:
    from kvmtools.observe.kernel import Kernel

END_OF_ADDRESSES = 1 << 32

# (name, first section symbol, symbol after it); later ones win where two overlap.
_IMAGE = (
    ("kernel image", "_text", "_end"),
    ("kernel text", "_text", "_etext"),
    ("kernel rodata", "__start_rodata", "__end_rodata"),
    ("kernel data", "_sdata", "_edata"),
    ("kernel init", "__init_begin", "__init_end"),
    ("kernel bss", "__bss_start", "__bss_stop"),
    ("kernel brk", "__brk_base", "__brk_limit"),
)

# (name, field of Layout where it starts, field where it ends); None is the end of the address space.
_AREAS: tuple[tuple[str, str, str | None], ...] = (
    ("direct map", "page_offset", "high_memory"),
    ("gap below vmalloc", "high_memory", "vmalloc_start"),
    ("vmalloc", "vmalloc_start", "vmalloc_end"),
    ("gap above vmalloc", "vmalloc_end", "pkmap_base"),
    ("pkmap", "pkmap_base", "ldt_base"),
    ("LDT", "ldt_base", "ldt_end"),
    ("CPU entry area", "cpu_entry_area_base", "cpu_entry_area_end"),
    ("boot-time fixmap", "fixaddr_tot_start", "fixaddr_start"),
    ("fixmap", "fixaddr_start", None),
)


@dataclass(frozen=True, slots=True)
class Region:
    """``[start, end)`` of virtual space, bytes."""

    name: str
    start: int
    end: int


class Regions:
    """Every region of one kernel's address space, ascending, without holes: what nobody claims is ``unused``.

    :param layout: as observed or as predicted; a region with an unknown boundary is left out
    :param sections: boundary symbols of the image, slide included (:class:`kvmtools.records.Image`)
    :param fixed: ``enum fixed_addresses``
    :param kmap_slots: kmap_local slots of one CPU (``KM_MAX_IDX``)
    """

    def __init__(
        self, layout: Layout, sections: Mapping[str, int], fixed: Mapping[str, int], kmap_slots: int | None =
        None
    ) -> None:
        self._layout = layout
        self._kmap_slots = kmap_slots
        # FIX_BTMAP_END < FIX_BTMAP_BEGIN: the enum's names are sorted by slot, first name of a slot wins.
        self._fixed: dict[int, str] = {}
        for name, slot in fixed.items():
            if not name.startswith("__end_of"):
                self._fixed.setdefault(slot, name)
        self._fixed_slots = sorted(self._fixed)
        self._kmap_begin, self._kmap_end = fixed.get("FIX_KMAP_BEGIN"), fixed.get("FIX_KMAP_END")
        self._regions = _without_holes(_claims(layout, sections))
        self._starts = [region.start for region in self._regions]

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def find(self, address: int) -> Region:
        """The region of a virtual address; there always is one."""
        return self._regions[bisect_right(self._starts, address) - 1]

    def describe(self, address: int) -> str:
        """The region's name, with the slot where the region is made of slots."""
        region = self.find(address)
        if region.name == "pkmap":
            return f"pkmap slot {(address - region.start) >> PAGE_SHIFT}"
        if region.name in ("fixmap", "boot-time fixmap"):
            return f"fixmap slot {self._fixmap_slot(address)}"
        return region.name

    def _fixmap_slot(self, address: int) -> str:
        """Slots count down from ``FIXADDR_TOP`` (``__virt_to_fix``); a name of the enum, or the one before it
        plus n.
        """
        top = self._layout.fixaddr_top
        if top is None:
            return "?"
        slot = (top - (address & -PAGE_SIZE)) >> PAGE_SHIFT
        if self._kmap_begin is not None and self._kmap_end is not None and self._kmap_begin <= slot <= self._kmap_end:
            index = slot - self._kmap_begin
            if self._kmap_slots:
                return f"FIX_KMAP cpu {index // self._kmap_slots} idx {index % self._kmap_slots}"
            return f"FIX_KMAP_BEGIN+{index}"
        at = bisect_right(self._fixed_slots, slot) - 1
        if at < 0:
            return str(slot)
        nearest = self._fixed_slots[at]
        return self._fixed[nearest] + (f"+{slot - nearest}" if slot > nearest else "")


def regions_of(kernel: Kernel, layout: Layout, *, nr_cpus: int | None = None) -> Regions:
    """The regions of a kernel that was found in a guest.

    :param nr_cpus: ``CONFIG_NR_CPUS``, to tell the CPUs' kmap_local slots apart
    """
    facts = kernel.facts
    names = {name for _, start, end in _IMAGE for name in (start, end)}
    sections = {name: kernel.address(name) for name in names if facts.has_symbol(name)}
    fixed = facts.enumerators("fixed_addresses")
    slots = None
    if nr_cpus and {"FIX_KMAP_BEGIN", "FIX_KMAP_END"} <= fixed.keys():
        slots = (fixed["FIX_KMAP_END"] - fixed["FIX_KMAP_BEGIN"] + 1) // nr_cpus
    return Regions(layout, sections, fixed, slots)


def _claims(layout: Layout, sections: Mapping[str, int]) -> list[Region]:
    """Who claims what, the more special after the more general."""
    claims = []
    if layout.page_offset is not None:
        claims.append(Region("user", 0, layout.page_offset))
    for name, first, last in _AREAS:
        start = getattr(layout, first)
        end = END_OF_ADDRESSES if last is None else getattr(layout, last)
        if start is not None and end is not None:
            claims.append(Region(name, start, end))
    claims.extend(
        Region(name, sections[first], sections[last])
        for name, first, last in _IMAGE
        if first in sections and last in sections
    )
    return [region for region in claims if region.start < region.end]


def _without_holes(claims: list[Region]) -> list[Region]:
    """Cut the address space at every boundary and give each piece to the last who claims it."""
    cuts = sorted({0, END_OF_ADDRESSES} | {edge for claim in claims for edge in (claim.start, claim.end)})
    pieces: list[Region] = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        owner = next((c for c in reversed(claims) if c.start <= start and end <= c.end), None)
        name = owner.name if owner else "unused"
        if pieces and pieces[-1].name == name:
            pieces[-1] = Region(name, pieces[-1].start, end)
        else:
            pieces.append(Region(name, start, end))
    return pieces

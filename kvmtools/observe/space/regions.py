"""What the kernel calls the place that a virtual address lies in.

Regions are half-open and never overlap.  Where one is made of slots (pkmap, the fixmap),
:meth:`Regions.describe` names the slot.  Source: arch/x86/include/asm/pgtable_32_areas.h, fixmap.h and
vmlinux.lds.S of 6.1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import Unobserved
from kvmtools.observe.boot.configuration import observe_image
from kvmtools.observe.per_cpu import configured_cpus
from kvmtools.observe.space.modules import Module, observe_modules
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Layout

if TYPE_CHECKING:
    from kvmtools.observe.kernel import Kernel

T = TypeVar("T")

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

# (name, fields of Layout where it starts, where it ends): the first known field counts; none is the end.
_AREAS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("direct map", ("page_offset",), ("high_memory",)),
    ("gap below vmalloc", ("high_memory",), ("vmalloc_start",)),
    ("vmalloc", ("vmalloc_start", "high_memory"), ("vmalloc_end", "pkmap_base", "ldt_base")),
    ("gap above vmalloc", ("vmalloc_end",), ("pkmap_base", "ldt_base")),
    ("pkmap", ("pkmap_base",), ("ldt_base", "cpu_entry_area_base")),
    ("LDT", ("ldt_base",), ("ldt_end", "cpu_entry_area_base")),
    (
        "CPU entry area",
        ("cpu_entry_area_base",),
        ("cpu_entry_area_end", "fixaddr_tot_start", "fixaddr_start"),
    ),
    ("boot-time fixmap", ("fixaddr_tot_start",), ("fixaddr_start",)),
    ("fixmap", ("fixaddr_start",), ()),
)
REGION_NAMES = ("user", *(area[0] for area in _AREAS), *(part[0] for part in _IMAGE), "unused")
_FIXMAPS = ("fixmap", "boot-time fixmap")


@dataclass(frozen=True, slots=True)
class Region:
    """``[start, end)`` of virtual space, bytes."""

    name: str
    start: int
    end: int


class Regions:
    """Every region of one kernel's address space, ascending, without holes: what nobody claims is ``unused``.

    :param layout: as observed or as predicted
    :param sections: boundary symbols of the image, slide included (:class:`kvmtools.records.Image`)
    :param fixed: ``enum fixed_addresses``
    :param end: of the address space
    :param nr_cpus: ``CONFIG_NR_CPUS``
    :param entry_area_size: ``sizeof(struct cpu_entry_area)``, bytes
    :param modules: loaded modules, each a region ``module NAME`` of its own
    """

    def __init__(
        self,
        layout: Layout,
        sections: Mapping[str, int],
        fixed: Mapping[str, int],
        *,
        end: int,
        nr_cpus: int = 1,
        entry_area_size: int = 0,
        modules: Iterable[Module] = (),
    ) -> None:
        self._layout = layout = _completed(layout, fixed, nr_cpus * entry_area_size)
        self._entry_area_size = entry_area_size
        # Several names may share a slot (FIX_BTMAP_END is where the next range begins); the first is its own.
        self._fixed: dict[int, str] = {}
        for name, slot in fixed.items():
            if not name.startswith("__end_of"):
                self._fixed.setdefault(slot, name)
        self._fixed_slots = sorted(self._fixed)
        first, last = fixed.get("FIX_KMAP_BEGIN"), fixed.get("FIX_KMAP_END")
        self._kmap = range(first, last + 1) if first is not None and last is not None else range(0)
        self._kmap_slots = len(self._kmap) // nr_cpus
        self._regions = _without_holes(_claims(layout, sections, modules, end), end)
        self._starts = [region.start for region in self._regions]

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def find(self, address: int) -> Region:
        """The region of a virtual address; there always is one."""
        return self._regions[bisect_right(self._starts, address) - 1]

    def describe(self, address: int) -> str:
        """The region's name, with the slot or the CPU where the region is made of them."""
        region = self.find(address)
        offset = address - region.start
        if region.name == "pkmap":
            return f"pkmap slot {offset >> PAGE_SHIFT}"
        if region.name in _FIXMAPS:
            return f"fixmap slot {self._fixmap_slot(address)}"
        if region.name == "CPU entry area":
            # Its first page shows the IDT, read-only (arch/x86/include/asm/cpu_entry_area.h).
            if offset < PAGE_SIZE:
                return "CPU entry area, IDT"
            if self._entry_area_size:
                return f"CPU entry area of CPU {(offset - PAGE_SIZE) // self._entry_area_size}"
        return region.name

    def describe_all(self, addresses: NDArray[np.unsignedinteger]) -> list[str]:
        """:meth:`describe` of many; one by one only where a region is made of slots."""
        rows = np.searchsorted(self._starts, addresses, "right") - 1
        regions, slotted = self._regions, {*_FIXMAPS, "pkmap", "CPU entry area"}
        return [
            self.describe(address) if (name := regions[row].name) in slotted else name
            for row, address in zip(rows.tolist(), addresses.tolist(), strict=True)
        ]

    def _fixmap_slot(self, address: int) -> str:
        """A name of the enum, or the one before it plus n; slots count down from ``FIXADDR_TOP``."""
        if self._layout.fixaddr_top is None:
            return "?"
        slot = (self._layout.fixaddr_top - (address & -PAGE_SIZE)) >> PAGE_SHIFT
        if slot in self._kmap and self._kmap_slots:
            cpu, index = divmod(slot - self._kmap.start, self._kmap_slots)
            return f"FIX_KMAP of CPU {cpu}, index {index}"
        at = bisect_right(self._fixed_slots, slot) - 1
        if at < 0:
            return str(slot)
        nearest = self._fixed_slots[at]
        return self._fixed[nearest] + (f"+{slot - nearest}" if slot > nearest else "")


def regions_of(kernel: Kernel, layout: Layout) -> Regions:
    """The regions of a kernel that was found in a guest; what cannot be had of it is left out."""
    vmlinux = kernel.vmlinux
    return Regions(
        layout,
        observe_image(kernel).sections,
        _or(lambda: vmlinux.enumerators("fixed_addresses"), dict[str, int]()),
        end=kernel.architecture.address_end,
        nr_cpus=_or(lambda: configured_cpus(kernel), 1),
        entry_area_size=_or(lambda: vmlinux.sizeof("struct cpu_entry_area"), 0),
        modules=_or(lambda: observe_modules(kernel), ()),
    )


def _or(read: Callable[[], T], otherwise: T) -> T:
    """What cannot be had only leaves names out."""
    try:
        return read()
    except Unobserved:
        return otherwise


def _completed(layout: Layout, fixed: Mapping[str, int], entry_areas: int) -> Layout:
    """The fixmap's and the CPU entry area's edges where they are not known, from the sizes of what they hold.

    These only name regions: what the edges ought to be is the model's to say.
    """
    found: dict[str, int] = {}
    if layout.fixaddr_top is not None:
        for field, limit in (
            ("fixaddr_start", "__end_of_permanent_fixed_addresses"),
            ("fixaddr_tot_start", "__end_of_fixed_addresses"),
        ):
            if limit in fixed:
                found[field] = layout.fixaddr_top - fixed[limit] * PAGE_SIZE
    if layout.cpu_entry_area_base is not None and entry_areas:
        found["cpu_entry_area_end"] = layout.cpu_entry_area_base + PAGE_SIZE + entry_areas
    return replace(layout, **{name: value for name, value in found.items() if getattr(layout, name) is None})


def _claims(
    layout: Layout, sections: Mapping[str, int], modules: Iterable[Module], address_end: int
) -> list[Region]:
    """Who claims what, the more special after the more general."""
    claims = [Region("user", 0, layout.page_offset or 0)]
    for name, first, last in _AREAS:
        start = _first_known(layout, first)
        end = _first_known(layout, last) if last else address_end
        if start is not None and end is not None:
            claims.append(Region(name, start, end))
    claims.extend(
        Region(name, sections[first], sections[last])
        for name, first, last in _IMAGE
        if first in sections and last in sections
    )
    claims.extend(Region(f"module {module.name}", a.start, a.end) for module in modules for a in module.areas)
    # An edge may have been worked out from one that was overwritten.
    return [region for region in claims if 0 <= region.start < region.end <= address_end]


def _first_known(layout: Layout, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if (value := getattr(layout, name)) is not None), None)


def _without_holes(claims: list[Region], address_end: int) -> list[Region]:
    """Cut the address space at every boundary and give each piece to the last who claims it."""
    cuts = sorted({0, address_end} | {edge for claim in claims for edge in (claim.start, claim.end)})
    pieces: list[Region] = []
    for start, end in pairwise(cuts):
        owner = next((c for c in reversed(claims) if c.start <= start and end <= c.end), None)
        name = owner.name if owner else "unused"
        if pieces and pieces[-1].name == name:
            pieces[-1] = Region(name, pieces[-1].start, end)
        else:
            pieces.append(Region(name, start, end))
    return pieces

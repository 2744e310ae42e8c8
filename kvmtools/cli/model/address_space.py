"""The address space of a predicted kernel cut into areas, each with the kernel's own name for where it begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvmtools.model.prediction import Prediction
from kvmtools.model.space.direct_map import OVERRUN
from kvmtools.model.space.layout import TOP
from kvmtools.records import PAGE_SIZE, PredictedLayout

GUARD = "guard hole"


@dataclass(frozen=True, slots=True)
class Area:
    """``[start, end)`` of virtual space; ``boundary`` is what the kernel calls ``start``."""

    boundary: str
    start: int
    end: int
    name: str


def address_space(prediction: Prediction) -> list[Area]:
    """Every byte of the 4 GiB, from the top down.

    :raises UsageError: if no kernel can be this way
    """
    starts = [(0, "", "user space"), *_direct_map(prediction), *_above(prediction)]
    ends = [start for start, _, _ in starts[1:]] + [TOP]
    areas = [
        Area(boundary, start, end, name) for (start, boundary, name), end in zip(starts, ends, strict=True)
    ]
    return areas[::-1]


def _direct_map(prediction: Prediction) -> Iterator[tuple[int, str, str]]:
    """Lowmem zone by zone, up to VMALLOC_START."""
    base, layout = prediction.configuration.page_offset, prediction.layout
    boundary, start = "PAGE_OFFSET", base
    for zone in sorted(prediction.zones, key=lambda zone: zone.start_pfn):
        if zone.end_pfn and zone.start_pfn < layout.max_low_pfn:
            yield start, boundary, f"direct map, zone {zone.name}"
            boundary, start = "", base + zone.end_pfn * PAGE_SIZE
    overrun = next((e for e in prediction.expectations if e.name == OVERRUN), None)
    if overrun is None:
        yield layout.high_memory, "high_memory", GUARD
    else:
        yield overrun.start, "high_memory", overrun.name
        yield overrun.end, "", GUARD


def _above(prediction: Prediction) -> Iterator[tuple[int, str, str]]:
    """From VMALLOC_START on; what lies between two areas is a hole."""
    at = 0
    for start, end, boundary, name in _areas(prediction, prediction.layout):
        if 0 < at < start:
            yield at, *_hole(prediction, at)
        # Without highmem, vmalloc reaches up into the slots that 2.6 needs while it boots only.
        yield (start, boundary, name) if at <= start else (at, "VMALLOC_END", name)
        at = end
    yield at, "FIXADDR_TOP" if prediction.era.fixmap_hole else "", "never mapped"


def _hole(prediction: Prediction, at: int) -> tuple[str, str]:
    """What the hole's start is called, and why the hole is there."""
    layout = prediction.layout
    if at == layout.vmalloc_end:
        return "VMALLOC_END", GUARD
    nailed = prediction.era.pkmap_base is not None and layout.pkmap is not None
    return "", "unused rest of pkmap" if nailed else "unused"


def _areas(prediction: Prediction, layout: PredictedLayout) -> Iterator[tuple[int, int, str, str]]:
    """``(start, end, boundary, name)`` of the areas that this kernel has, ascending."""
    yield layout.vmalloc_start, layout.vmalloc_end, "VMALLOC_START", "vmalloc, ioremap, modules"
    if (pkmap := layout.pkmap) is not None:
        yield pkmap.start, pkmap.end, "PKMAP_BASE", f"pkmap, {len(pkmap) // PAGE_SIZE} slots"
    if layout.ldt is not None:
        empty = "" if prediction.configuration.pti else " (no PTI: empty)"
        yield layout.ldt.start, layout.ldt.end, "LDT_BASE_ADDR", f"LDT{empty}"
    if layout.cpu_entry_area is not None:
        area = (layout.cpu_entry_area.start, layout.cpu_entry_area.end)
        cpus = prediction.configuration.nr_cpus
        yield *area, "CPU_ENTRY_AREA_BASE", f"CPU entry area, {cpus} CPU{'s' if cpus > 1 else ''}"
    if layout.fixaddr_tot_start < layout.fixaddr_start:
        boundary = "FIXADDR_TOT_START" if prediction.era.cpu_entry_area else "FIXADDR_BOOT_START"
        yield layout.fixaddr_tot_start, layout.fixaddr_start, boundary, "boot-time fixmap"
    if prediction.era.fixmap_hole:
        yield layout.fixaddr_start, layout.fixaddr_top, "FIXADDR_START", "fixmap"
    else:
        yield layout.fixaddr_start, layout.fixaddr_top, "FIXADDR_START", "fixmap but for slot 0"
        yield layout.fixaddr_top, layout.fixaddr_top + PAGE_SIZE, "FIXADDR_TOP", "slot 0 of the fixmap"

"""The kernel's address space from the top down, the limits of its memory, and its image, in text."""

from __future__ import annotations

from typing import Any

from kvmtools.records import PAGE_SHIFT
from kvmtools.show.drawing import Boundary, address_space_picture, beside
from kvmtools.show.style import paint
from kvmtools.show.tables import columns, size, table

BELOW = {
    "fixaddr_top": "fixmap",
    "fixaddr_start": "boot-time fixmap",
    "fixaddr_tot_start": "(unused)",
    "cpu_entry_area_end": "CPU entry area",
    "cpu_entry_area_base": "(unused)",
    "ldt_end": "LDT",
    "ldt_base": "pkmap",
    "pkmap_base": "(guard)",
    "vmalloc_end": "vmalloc, ioremap, modules",
    "vmalloc_start": "(gap)",
    "high_memory": "direct map",
    "page_offset": "user",
}
"""Boundaries of the address space from its top down, each with what lies right below it."""
LIMITS = ("max_low_pfn", "highstart_pfn", "highend_pfn", "max_pfn", "max_mapnr", "last_pkmap")
"""Limits of memory in pfns; the last counts slots."""


def layout_text(layout: Any) -> str:
    """The picture, the limits and the image.

    :param layout: :class:`kvmtools.KernelLayout`
    """
    downwards = sorted(layout.boundaries, key=lambda edge: -edge.place)
    below = [BELOW[edge.name] for edge in downwards]
    if "pkmap_base" not in {edge.name for edge in layout.boundaries}:
        below = ["(guard)" if name == "pkmap" else name for name in below]
    limits = [
        (
            limit.name,
            "?" if limit.live is None else limit.live,
            size(limit.place << PAGE_SHIFT),
            beside(limit, "d"),
        )
        for limit in layout.limits
    ]
    sections = [
        (name, f"{each.start:08x}-{each.end:08x}", size(len(each))) for name, each in layout.image.items()
    ]
    return "\n".join(
        [
            *address_space_picture([*downwards, Boundary("", 0, None)], below),
            "",
            table(columns("limit >live >bytes model"), limits),
            "",
            paint(f"kernel image, moved by {layout.slide:#x} (KASLR)", bold=True),
            table(columns("section addresses >size"), sections),
        ]
    )

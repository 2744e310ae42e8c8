"""Findings about a ``struct page`` or a slot of pkmap, with all that says where it is."""

from __future__ import annotations

from typing import Any

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.findings import Finding
from kvmtools.observe.pages.memmap import MemMap


def unsigned(value: int, size: int) -> int:
    """The ``size`` bytes of a number that may be negative, as they stand in memory."""
    return value % (1 << 8 * size)


def of_page(memmap: MemMap, number: int, member: str, expected: str, observed: str, **more: Any) -> Finding:
    """A finding about a member of the ``struct page`` of a pfn; ``raw`` is its word."""
    number = int(number)
    address = memmap.pfn_to_page(number) + memmap.offsets[member]
    return Finding(
        subjects.pfn(number),
        expected,
        observed,
        pfn=number,
        virtual=address,
        physical=address - memmap.base + memmap.physical,
        # Only FLATMEM has an array of that name.
        symbol=f"pfn_to_page({number:#x})->{member}"
        if memmap.max_mapnr is None
        else f"mem_map[{number:#x}].{member}",
        raw=int(memmap.column(member)[number]),
        **more,
    )


def of_slot(case: Case, number: int, expected: str, observed: str, **more: Any) -> Finding:
    """A finding about a pkmap slot; where and ``raw`` are its PTE unless given."""
    number, pkmap = int(number), case.pkmap
    fields = {
        "virtual": case.area.address_of(number),
        "physical": pkmap.page_table_physical + number * case.entry_size,
        "symbol": f"pkmap_page_table[{number}]",
        "raw": int(pkmap.ptes[number]),
        "virtual_is": "maps virtual",
        "physical_is": "PTE at physical",
    }
    return Finding(subjects.slot(number), expected, observed, **{**fields, **more})

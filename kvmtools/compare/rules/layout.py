"""Rules about the boundaries of the kernel's address space."""

from __future__ import annotations

from itertools import pairwise

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.records import PAGE_SHIFT

LOOK = "kvmtools layout: the model's map beside the live one"
SOURCE = "arch/x86/include/asm/pgtable_32_areas.h, fixmap.h; arch/x86/mm/init_32.c, 6.1"

OWN_RULE = frozenset({"max_mapnr"})
"""Fields that a rule of their own judges."""

ASCENDING = (
    "page_offset",
    "high_memory",
    "vmalloc_start",
    "vmalloc_end",
    "pkmap_base",
    "ldt_base",
    "cpu_entry_area_base",
    "fixaddr_tot_start",
    "fixaddr_start",
    "fixaddr_top",
)
"""Boundaries from the bottom of the kernel's half to its top; none may lie below the one before it."""


def _finding(name: str, expected: int, observed: int) -> Finding:
    is_address = not name.endswith("pfn") and name != "last_pkmap"
    return Finding(
        subjects.field(name),
        f"{expected:#x}",
        f"{observed:#x}",
        virtual=observed if is_address else None,
        pfn=observed if name.endswith("pfn") else None,
        symbol=name,
        raw=observed,
    )


def matches_model(case: Case) -> Examination:
    """Every boundary that the guest shows is where the model puts it."""
    predicted = dict(case.predicted.items())
    elsewhere = OWN_RULE
    if not case.vmlinux.has_symbol("address_markers"):
        elsewhere |= {"page_offset"}  # both sides have it from the vmlinux: no marker of the guest's says it
    pairs = [
        (name, predicted[name], observed)
        for name, observed in case.observed.layout.items()
        if observed is not None and predicted[name] is not None and name not in elsewhere
    ]
    wrong = [pair for pair in pairs if pair[1] != pair[2]]
    return violations(len(pairs), wrong, lambda pair: _finding(*pair))


def ordered(case: Case) -> Examination:
    """The areas follow one another without overlap."""
    live = dict(case.observed.layout.items())
    known = [(name, address) for name in ASCENDING if (address := live[name]) is not None]

    def spell(pair: tuple[tuple[str, int], tuple[str, int]]) -> Finding:
        (below, low), (above, high) = pair
        return Finding(
            subjects.field(above),
            f"above {below}, {low:#x}",
            f"{high:#x}",
            virtual=high,
            symbol=above,
            raw=high,
            touches=(subjects.field(below),),
        )

    pairs = list(pairwise(known))
    return violations(len(pairs), [pair for pair in pairs if pair[0][1] > pair[1][1]], spell)


def high_memory(case: Case) -> Examination:
    """``high_memory`` is the address behind the last page of lowmem."""
    live = case.observed.layout
    if live.high_memory is None or live.max_low_pfn is None or live.page_offset is None:
        return Examination(0, skipped="the guest shows no high_memory or no max_low_pfn")
    expected = live.page_offset + (live.max_low_pfn << PAGE_SHIFT)
    finding = Finding(
        subjects.field("high_memory"),
        f"{expected:#x}, __va(max_low_pfn {live.max_low_pfn:#x})",
        f"{live.high_memory:#x}",
        virtual=live.high_memory,
        symbol="high_memory",
        raw=live.high_memory,
        touches=(subjects.field("max_low_pfn"),),
    )
    return violations(1, [finding] if live.high_memory != expected else [], lambda found: found)


RULES = (
    Rule(
        "layout.matches-model",
        "every boundary that the guest shows (high_memory, VMALLOC, PKMAP_BASE, LDT, CPU entry area, fixmap, max_pfn, "
        "max_low_pfn) is where the formulas put it for this configuration and this RAM map",
        f"{SOURCE}; find_low_pfn_range",
        "boundaries",
        LOOK,
        check=matches_model,
        exceptions="a boundary that this kernel does not write down is not compared",
        invariants=(16, 41),
    ),
    Rule(
        "layout.ordered",
        "lowmem, vmalloc, pkmap, LDT, CPU entry area and fixmap follow one another without overlap",
        SOURCE,
        "borders",
        LOOK,
        check=ordered,
        invariants=(16,),
        defers_to=("layout.matches-model",),
    ),
    Rule(
        "layout.high-memory",
        "high_memory is the linear address behind the last page of lowmem, __va(max_low_pfn)",
        "initmem_init: arch/x86/mm/init_32.c, 6.1",
        "words",
        LOOK,
        check=high_memory,
        exceptions="NUMA kernels of 2.6 remap part of lowmem",
        invariants=(41,),
        defers_to=("layout.matches-model",),
    ),
)

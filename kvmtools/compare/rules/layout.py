"""Rules about the boundaries of the kernel's address space."""

from __future__ import annotations

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding

LOOK = "kvmtools layout: the model's map beside the live one"
SOURCE = "arch/x86/include/asm/pgtable_32_areas.h, fixmap.h; arch/x86/mm/init_32.c, 6.1"


def _finding(name: str, expected: int, observed: int) -> Finding:
    is_address = not name.endswith("pfn") and name not in ("last_pkmap", "max_mapnr")
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
    # Where no marker of the guest's says it, both sides have it from the vmlinux.
    told = set() if case.vmlinux.has_symbol("address_markers") else {"page_offset"}
    pairs = [
        (name, predicted[name], observed)
        for name, observed in case.observed.layout.items()
        if observed is not None and predicted[name] is not None and name not in told
    ]
    wrong = [pair for pair in pairs if pair[1] != pair[2]]
    return violations(len(pairs), wrong, lambda pair: _finding(*pair))


RULES = (
    Rule(
        "layout.matches-model",
        "every boundary that the guest shows (high_memory, VMALLOC, PKMAP_BASE, LDT, CPU entry area, fixmap, max_pfn, "
        "max_low_pfn, max_mapnr) is where the formulas put it for this configuration and this RAM map",
        f"{SOURCE}; find_low_pfn_range, initmem_init",
        "boundaries",
        LOOK,
        check=matches_model,
        about="high_memory",
        exceptions="a boundary that this kernel does not write down is not compared; SPARSEMEM does not set max_mapnr",
        invariants=(16, 41, 46),
    ),
)

"""The rule about the fixmap slots through which a CPU shows pages to itself."""

from __future__ import annotations

import numpy as np

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.records import PAGE_SIZE


def entries(case: Case) -> Examination:
    """The kernel keeps a slot's entry where its page tables have that of the slot's address."""
    fixmap, kept = case.prediction.kmap_local, case.observed.kmap_local.entries_physical.tolist()
    if fixmap is None:
        return Examination(
            0, skipped="this kernel has no FIX_KMAP_BEGIN: it has no slots for kmap_local_page()"
        )
    if not kept:
        return Examination(0, skipped="no slot of kmap_local_page() was used since the kernel booted")
    found = [_entry_of(case, fixmap.address_of(slot)) for slot in range(len(kept))]
    wrong = [slot for slot, place in enumerate(found) if place != kept[slot]]

    def spell(slot: int) -> Finding:
        address, place = fixmap.address_of(slot), found[slot]
        cpu, index = fixmap.owner_of(slot)
        return Finding(
            subjects.virtual(address),
            "no entry: no page table leads there" if place is None else f"its entry at physical {place:#x}",
            f"the kernel keeps it at physical {kept[slot]:#x}; so it is with {len(wrong)} of {len(kept)} slots",
            virtual=address,
            physical=kept[slot],
            symbol=f"slot {index} of CPU {cpu}",
            physical_is="entry at physical",
        )

    # All lie in a row, and one pointer leads to them.
    return violations(len(kept), wrong[:1], spell)


def _entry_of(case: Case, address: int) -> int | None:
    """Where the kernel's page tables have the entry of an address; ``None`` if they do not come so far."""
    tables, span = case.kernel_walk.tables, case.prediction.form.levels[-2].span
    (rows,) = np.nonzero((tables.level == 1) & (tables.virtual == address // span * span))
    if not len(rows):
        return None
    return int(tables.physical[rows[0]]) + address % span // PAGE_SIZE * case.entry_size


RULES = (
    Rule(
        "kmap-local.entries",
        "the entry that the kernel keeps of each slot of kmap_local_page() is the one that its page tables have of the "
        "slot's address",
        "kmap_get_pte: mm/highmem.c, 6.1; kmap_init: arch/x86/mm/init_32.c, 5.10",
        "slots",
        "kvmtools vtop {virtual}: the way to its entry; kvmtools pkmap: the slots in use",
        check=entries,
        about="struct kmap_ctrl",
        exceptions="up to the first use since boot the kernel keeps none",
        needs=("scheduling",),
        defers_to=("pagetable.presence", "pagetable.reserved-bits", "pagetable.tables-in-ram"),
    ),
)

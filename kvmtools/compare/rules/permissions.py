"""Rules about what the kernel's page tables permit."""

from __future__ import annotations

import numpy as np

from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.compare.rules.page_tables import LOCKS, LOOK, leaf_finding, rows_within
from kvmtools.findings import Finding
from kvmtools.model.memory.ram import BIOS
from kvmtools.records import Expectation

USER_BIT = np.uint64(1 << 2)


def _allowed(expectation: Expectation, rights: str) -> dict[str, bool]:
    """The permissions that are decided in a region: ``{"writable": False}``."""
    values = {right: getattr(expectation, right) for right in rights.split()}
    return {right: value for right, value in values.items() if value is not None}


def permissions(case: Case) -> Examination:
    """Effective W and X of every leaf are those of its region."""
    walk, seen = case.kernel_walk, Examination(0)
    words = {
        ("writable", True): "RW",
        ("writable", False): "RO",
        ("executable", True): "x",
        ("executable", False): "NX",
    }
    for expectation in case.prediction.expectations:
        wanted = _allowed(expectation, "writable executable")
        rows = rows_within(case, expectation.start, expectation.end)
        rows = rows[~np.isin(rows, case.kexec_leaves)]
        if not wanted or not len(rows):
            continue
        wrong = np.zeros(len(rows), np.bool_)
        for right, value in wanted.items():
            wrong |= getattr(walk, right)[rows] != value

        def spell(
            row: int, expectation: Expectation = expectation, wanted: dict[str, bool] = wanted
        ) -> Finding:
            expected = " ".join(words[item] for item in wanted.items())
            observed = " ".join(words[right, bool(getattr(walk, right)[row])] for right in wanted)
            return leaf_finding(
                case,
                row,
                f"{expected}: {expectation.name}",
                observed,
                touches=case.slot_subjects(int(walk.virtual[row])),
            )

        seen += violations(len(rows), rows[wrong], spell)
    return seen


def write_xor_execute(case: Case) -> Examination:
    """No leaf is writable and executable."""
    walk = case.kernel_walk
    kernel = walk.virtual >= np.uint64(case.page_offset)
    # The area of the BIOS is executable where the kernel found a PCI BIOS to call (pcibios_enabled).
    bios = [np.uint64(case.page_offset + edge) for edge in (BIOS.start, BIOS.end)]
    excused = (walk.virtual >= bios[0]) & (walk.virtual < bios[1])
    for region in case.prediction.expectations:
        if region.writable and region.executable:  # what the boot tables left mapped, over a hole in lowmem
            excused |= (walk.virtual >= np.uint64(region.start)) & (walk.virtual < np.uint64(region.end))
    wrong = np.flatnonzero(walk.writable & walk.executable & kernel & ~excused)
    wrong = wrong[~np.isin(wrong, case.kexec_leaves)]
    return violations(
        np.count_nonzero(kernel),
        wrong,
        lambda row: leaf_finding(case, row, "not both writable and executable", "RW x"),
    )


def kernel_only(case: Case) -> Examination:
    """No leaf of the kernel's half is open to user mode."""
    walk = case.kernel_walk
    kernel = walk.virtual >= np.uint64(case.page_offset)
    wrong = np.flatnonzero(kernel & ((walk.entry & USER_BIT) != 0))
    return violations(
        np.count_nonzero(kernel),
        wrong,
        lambda row: leaf_finding(case, row, "US clear in the leaf: a kernel page", "US set"),
    )


RULES = (
    Rule(
        "pagetable.permissions",
        "a kernel page may be written and executed as its region says: text RO x, rodata RO NX, data RW NX, and so on",
        "mark_rodata_ro, mark_nxdata_nx: arch/x86/mm/init_32.c; SDM 3A 4.6, 6.1",
        "leaves",
        LOOK,
        check=permissions,
        exceptions="permissions that the kernel changes while it runs are not compared (module text, trampoline, BIOS; "
        "the control page of a loaded kexec image)",
        invariants=(25,),
        needs=("booted",),
        locks=LOCKS,
        defers_to=("pkmap.pte-flags", "pkmap.pte-matches-count", "pagetable.reserved-bits"),
    ),
    Rule(
        "pagetable.write-xor-execute",
        "no kernel page is both writable and executable",
        "note_wx: arch/x86/mm/dump_pagetables.c, 6.1 (which on PAE cannot see it: its effective RW is 0)",
        "leaves",
        LOOK,
        check=write_xor_execute,
        exceptions="without NX everything is executable; the BIOS area 0xa0000 .. 0x100000; the control page of a "
        "loaded kexec image; what the boot tables left mapped over a hole in lowmem",
        invariants=(25,),
        needs=("nx", "rodata", "booted"),
        locks=LOCKS,
        defers_to=("pagetable.permissions", "pkmap.pte-flags"),
    ),
    Rule(
        "pagetable.kernel-only",
        "no leaf at or above PAGE_OFFSET has US set",
        "__PAGE_KERNEL: arch/x86/include/asm/pgtable_types.h; SDM 3A 4.6, 6.1",
        "leaves",
        LOOK,
        check=kernel_only,
        exceptions="tables of ptes are hooked with US set, so the leaf decides; the vsyscall page of 2.6",
        invariants=(26,),
        locks=LOCKS,
        defers_to=("pkmap.pte-flags",),
    ),
)

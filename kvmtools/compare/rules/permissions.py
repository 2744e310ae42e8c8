"""Rules about what the kernel's page tables permit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.compare.rules.page_tables import LOCKS, LOOK, leaf_finding, rows_within
from kvmtools.findings import Finding
from kvmtools.model.memory.ram import BIOS
from kvmtools.records import Expectation

USER_BIT = np.uint64(1 << 2)


RIGHTS = ("writable", "executable")
WORDS = {
    ("writable", True): "RW",
    ("writable", False): "RO",
    ("executable", True): "x",
    ("executable", False): "NX",
}


def _decided(region: Expectation) -> dict[str, bool]:
    """The permissions that are decided in a region: ``{"writable": False}``."""
    values = {right: getattr(region, right) for right in RIGHTS}
    return {right: value for right, value in values.items() if value is not None}


def _differ(case: Case, region: Expectation, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of these leaves do not have the permissions of the region."""
    wrong = np.zeros(len(rows), np.bool_)
    for right, value in _decided(region).items():
        wrong |= getattr(case.kernel_walk, right)[rows] != value
    return wrong


def permissions(case: Case) -> Examination:
    """Effective W and X of every leaf are those of its region."""
    examined, wrong = 0, [np.zeros(0, np.intp)]
    for region in case.prediction.expectations:
        rows = rows_within(case, region.start, region.end)
        rows = rows[~np.isin(rows, case.kexec_leaves)]
        if _decided(region):
            examined += len(rows)
            wrong.append(rows[_differ(case, region, rows)])
    # A large leaf may lie in two regions, and is wrong once.
    return violations(examined, np.unique(np.concatenate(wrong)), lambda row: _forbidden(case, row))


def _forbidden(case: Case, row: int) -> Finding:
    """A leaf whose permissions are not those of some of its regions."""
    walk = case.kernel_walk
    regions = [
        region
        for region in case.prediction.expectations
        if row in rows_within(case, region.start, region.end) and _differ(case, region, np.array([row]))[0]
    ]
    expected = (
        f"{' '.join(WORDS[each] for each in _decided(region).items())}: {region.name}" for region in regions
    )
    asked = [right for right in RIGHTS if any(right in _decided(region) for region in regions)]
    observed = " ".join(WORDS[right, bool(getattr(walk, right)[row])] for right in asked)
    touches = case.slot_subjects(int(walk.virtual[row]))
    return leaf_finding(case, row, "; ".join(expected), observed, touches=touches)


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
        about="swapper_pg_dir",
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
        about="swapper_pg_dir",
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
        about="swapper_pg_dir",
        exceptions="tables of ptes are hooked with US set, so the leaf decides; the vsyscall page of 2.6",
        invariants=(26,),
        locks=LOCKS,
        defers_to=("pkmap.pte-flags",),
    ),
)

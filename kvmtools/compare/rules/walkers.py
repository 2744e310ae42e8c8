"""Rules about reading page tables: two walkers see the same, and nothing is there that a processor refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare.case import AddressSpace, Case
from kvmtools.compare.rule import SPELLED, Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.model.paging import walk as model_walk
from kvmtools.records import Leaf, Range

LOOK = "kvmtools vtop {virtual}: every level with its raw entry"
LOCKS = ("init_mm.page_table_lock", "pgd_lock", "cpa_lock")

PLAIN_LEAVES = 1 << 16
"""Leaves that the plain walker looks at, of the kernel's and of all processes'; it takes microseconds for each, and
there may be millions: a kernel without large pages has one for every page of lowmem."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A leaf that the two walkers do not see alike; ``None`` from one that sees none there."""

    plain: Leaf | None
    observed: Leaf | None

    @property
    def either(self) -> Leaf:
        """Whatever there is of it."""
        found = self.plain or self.observed
        assert found is not None
        return found


def walkers_agree(case: Case) -> Examination:
    """The model's plain walker and the observer's vectorised one find the same leaves."""
    seen, shift = Examination(0), case.prediction.form.levels[-2].shift
    for spaces in ((case.kernel_space,), case.address_spaces[1:]):
        for space, part in plain_share(spaces, shift, PLAIN_LEAVES):
            seen += _compared(case, space, part)
    return seen


def plain_share(
    spaces: tuple[AddressSpace, ...], shift: int, leaves: int
) -> Iterator[tuple[AddressSpace, Range]]:
    """The parts of address spaces for the plain walker: all of them, or every n-th, the same for the same guest.

    :param shift: of the address bits that index the directory: a table of ptes maps ``1 << shift`` bytes
    :param leaves: how many leaves the choice has, give or take those of a table
    """
    every = max(1, -(-sum(len(space.walk) for space in spaces) // leaves))
    passed = 0
    for space in spaces:
        parts = table_parts(space, shift)
        yield from ((space, part) for part in parts[-passed % every :: every])
        passed += len(parts)


def table_parts(space: AddressSpace, shift: int) -> list[Range]:
    """The whole of an address space, cut where a table of ptes begins: what lies between two belongs to the first."""
    tables = np.unique(space.walk.virtual >> np.uint64(shift)) << np.uint64(shift)
    return [Range(*edges) for edges in pairwise([space.start, *tables[1:].tolist(), space.end])]


def _compared(case: Case, space: AddressSpace, part: Range) -> Examination:
    """Both walks of one part, side by side: neither is ever a list."""
    plain = model_walk.walk(
        case.observed.kernel.memory.read, space.root, case.prediction.form, part.start, part.end
    )
    observed = space.walk.mappings(space.walk.within(part.start, part.end))
    examined, total, differing = 0, 0, []
    ours, theirs = next(plain, None), next(observed, None)
    while ours is not None or theirs is not None:
        first = theirs is None or (ours is not None and ours.virtual <= theirs.virtual)
        last = ours is None or (theirs is not None and theirs.virtual <= ours.virtual)
        if ours != theirs and (first or not _refused_on_the_way(case, space, theirs)):
            total += 1
            if total <= SPELLED:
                differing.append(Difference(ours if first else None, theirs if last else None))
        if first:
            examined += 1
            ours = next(plain, None)
        if last:
            theirs = next(observed, None)
    return Examination(examined, tuple(_spell(space, each) for each in differing), total)


def _refused_on_the_way(case: Case, space: AddressSpace, leaf: Leaf | None) -> bool:
    """Whether the observer went past an entry that the processor refuses: pagetable.reserved-bits reports that one."""
    assert leaf is not None
    way = model_walk.translate(
        case.observed.kernel.memory.read, space.root, leaf.virtual, case.prediction.form
    )
    return isinstance(way, model_walk.Fault) and bool(way.entry and way.entry & model_walk.PRESENT)


def _spell(space: AddressSpace, found: Difference) -> Finding:
    known = found.either
    return Finding(
        space.subject(known.virtual),
        _describe(found.plain),
        _describe(found.observed),
        virtual=known.virtual,
        physical=known.table,
        raw=known.entry,
        symbol=space.name,
    )


def _describe(mapping: Leaf | None) -> str:
    if mapping is None:
        return "no leaf"
    rights = "".join(
        letter
        for letter, held in zip("WUX", (mapping.writable, mapping.user, mapping.executable), strict=True)
        if held
    )
    return f"{mapping.size:#x} bytes at {mapping.physical:#x} level {mapping.level} {rights or '-'}"


def reserved_bits(case: Case) -> Examination:
    """No present entry has a bit set that makes the processor refuse it."""
    seen = Examination(0)
    for space in case.address_spaces:

        def spell(address: int, space: AddressSpace = space) -> Finding:
            # The arrays say where; the model's translation says what stops the processor there.
            fault = model_walk.translate(
                case.observed.kernel.memory.read, space.root, int(address), case.prediction.form
            )
            words = fault.reason if isinstance(fault, model_walk.Fault) else "reserved bits are set"
            level = fault.level
            return Finding(
                space.subject(int(address)),
                "every reserved bit 0 in a present entry",
                f"{level}[{fault.index}]: {words}",
                virtual=int(address),
                physical=fault.table + fault.index * case.entry_size,
                symbol=space.name,
                raw=fault.entry,
                touches=case.slot_subjects(int(address)),
            )

        seen += violations(len(space.walk) + len(space.walk.tables), _refused(case, space), spell)
    return seen


def _refused(case: Case, space: AddressSpace) -> NDArray[np.uint64]:
    """First address behind every entry with a reserved bit, ascending; nothing below a refused table counts."""
    walk, tables = space.walk, space.walk.tables
    found = np.empty(0, np.uint64)
    leaves, below = np.arange(len(walk)), np.arange(len(tables))
    for level in case.prediction.form.levels:
        mine = leaves[walk.level[leaves] == level.number]
        wrong = walk.virtual[mine[walk.entry[mine] & np.uint64(level.leaf_reserved) != 0]]
        hooked = below[tables.level[below] == level.number - 1]
        torn = tables.virtual[hooked[tables.parent_entry[hooked] & np.uint64(level.reserved) != 0]]
        found = np.concatenate([found, wrong, torn])
        if len(torn):
            shift = np.uint64(level.shift)
            leaves = leaves[~np.isin(walk.virtual[leaves] >> shift, torn >> shift)]
            under = np.isin(tables.virtual[below] >> shift, torn >> shift) & (
                tables.level[below] < level.number
            )
            below = below[~under]
    return np.sort(found)


RULES = (
    Rule(
        "pagetable.reserved-bits",
        "no present entry has a reserved bit set: in a PDPTE all but address, P, PWT, PCD and 9..11; "
        "below, the address bits from MAXPHYADDR to 62, NX without NX, and the low address bits of a large "
        "page",
        "SDM 3A 4.3, 4.4.2, tables 4-4 to 4-11; _PAGE_BIT_*: arch/x86/include/asm/pgtable_types.h, 6.1",
        "entries",
        LOOK,
        check=reserved_bits,
        about="swapper_pg_dir",
        exceptions="entries that are not present may hold anything (swap, PROT_NONE)",
        invariants=(27,),
        locks=LOCKS,
    ),
    Rule(
        "pagetable.walkers-agree",
        "the model's plain walker and the observer's vectorised walker find the same leaves with the same permissions: "
        f"all of the kernel's and all of the processes'; where one of the two has more than {PLAIN_LEAVES:,}, an even "
        "choice of so many",
        "SDM 3A 4.3, 4.4, 4.6, arch/x86/include/asm/pgtable_types.h, 6.1: two implementations that share no code",
        "leaves",
        LOOK,
        check=walkers_agree,
        about="swapper_pg_dir",
        exceptions="what lies behind an entry with a reserved bit set",
        locks=LOCKS,
    ),
)

"""One access to memory as a processor makes it: the walk, the rights, the marks that it leaves, or its page fault.

Source: Intel SDM volume 3A: 4.4.1 (PDPTE registers), 4.6 (access rights), 4.7 (page-fault exceptions), 4.8 (accessed
and dirty flags), 4.9 and 11.12 (memory types, PAT), 4.10.2.4 (global pages), volume 1, 3.3.7.1 (canonical addresses).

Three things the manual leaves to the processor, or that lie outside of paging:

* an entry is marked accessed once the one below it was read, also if that one stops the access: QEMU does it so;
* a table that is not in RAM is no exception of the processor's; it is reported as a fault without a vector;
* the memory type is that of the page tables; the MTRRs may make it a stricter one (table 11-7).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import NamedTuple

from kvmtools.errors import MemoryFault, UsageError
from kvmtools.model.paging.forms import (
    ACCESSED,
    CACHE_DISABLE,
    DIRTY,
    GLOBAL,
    NX,
    PRESENT,
    USER,
    WRITABLE,
    WRITE_THROUGH,
    PagingForm,
)
from kvmtools.model.paging.physical import Memory
from kvmtools.model.paging.walk import Fault, Read, Step, translate
from kvmtools.records import Leaf

PAT_POWER_ON = 0x0007_0406_0007_0406
"""IA32_PAT after reset (SDM 3A, table 11-12): what kernels before 2.6.26 live with."""
PAT_LINUX = 0x0407_0506_0007_0106
"""IA32_PAT as Linux sets it: WB WC UC- UC WB WP UC- WT (arch/x86/mm/pat/memtype.c, 6.1)."""
MEMORY_TYPES = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-"}
"""A byte of IA32_PAT and its meaning (SDM 3A, table 11-10)."""

PROTECTION, WRITE, USER_MODE, RESERVED, FETCH = (1 << bit for bit in range(5))
"""Bits of a page fault's error code (SDM 3A, figure 4-12): P, W/R, U/S, RSVD, I/D."""


class Control(NamedTuple):
    """Registers that decide what an access may do; CR4.PSE and EFER.NXE are part of the form."""

    wp: bool = True
    """CR0.WP: read-only pages are so for the supervisor too."""
    smep: bool = False
    """CR4.SMEP: the supervisor does not execute a user's page."""
    smap: bool = False
    """CR4.SMAP: the supervisor does not touch a user's page while EFLAGS.AC is clear."""
    ac: bool = False
    """EFLAGS.AC."""
    pge: bool = True
    """CR4.PGE: the global bit means something."""
    pat: int = PAT_LINUX
    """The IA32_PAT register."""


LINUX = Control()


class Access(NamedTuple):
    """What an access met."""

    physical: int
    """The address itself, not that of its page."""
    leaf: Leaf
    """As it was before this access."""
    steps: tuple[Step, ...]
    """Every entry on the way, from the root downwards, as it was before."""
    references: int
    """How many entries were read from memory, and not from registers."""
    pat_index: int
    """Which byte of IA32_PAT counts: PAT, PCD and PWT as a number."""
    memory_type: str
    is_global: bool
    """Whether the TLB keeps it when CR3 is loaded."""


@dataclass(frozen=True, slots=True)
class AccessFault(Fault):
    """The exception that an access raises, and the entry to blame."""

    exception: str
    """``"#PF"``, ``"#GP"``, or empty where the manual names none."""
    error_code: int


class PointerRegisters(NamedTuple):
    """The four PDPTEs that a processor holds since CR3 was loaded, whatever has become of memory since (4.4.1)."""

    table: int
    """Where they were read."""
    entries: tuple[int, ...]


def load_cr3(read: Read, cr3: int, form: PagingForm) -> int | PointerRegisters | AccessFault:
    """MOV to CR3: what later accesses start from, which with PAE paging is no longer memory.

    :returns: the address of the first table; with PAE paging the loaded registers; or #GP for a PDPTE that is present
        with a reserved bit set, and then the registers stay as they were; no exception if they are not in RAM
    """
    table = cr3 & form.root
    if not form.pointer_registers:
        return table
    level = form.levels[0]
    try:
        raw = read(table, form.entry_size << level.bits)
    except MemoryFault:
        return _fault(Fault(0, level.name, table, 0, None, "the table is not in RAM"), "", 0)
    entries = struct.unpack(f"<{1 << level.bits}{form.entry}", raw)
    for index, entry in enumerate(entries):
        # The form forgives bit 5, for the sake of QEMU; table 4-8 and a processor do not.
        wrong = entry & (level.reserved | ACCESSED)
        if entry & PRESENT and wrong:
            reason = f"CR3 is not loaded: reserved bits {wrong:#x} are set"
            where = Fault(index << level.shift, level.name, table, index, entry, reason)
            return _fault(where, "#GP", 0)
    return PointerRegisters(table, entries)


def access(
    memory: Memory,
    root: int | PointerRegisters,
    virtual: int,
    form: PagingForm,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    control: Control = LINUX,
) -> Access | AccessFault:
    """Read, write or execute one byte; accessed and dirty flags are set in ``memory``.

    :param root: CR3, or what :func:`load_cr3` made of it; CR3 itself reads PDPTEs from memory, as AMD's processors do
    :param user: the access is made at CPL 3
    :raises UsageError: if it is to write and to fetch at once, or the PAT has no such memory type
    """
    if write and fetch:
        raise UsageError("an access either writes or fetches an instruction")
    steps: list[Step] = []
    if isinstance(root, PointerRegisters):
        found = _from_registers(memory.read, root, virtual, form, steps)
        references = len(steps) - 1
    else:
        found = translate(memory.read, root, virtual, form, steps=steps)
        references = len(steps)
    asked = WRITE * write | USER_MODE * user | FETCH * (fetch and (control.smep or form.nx))
    for step in steps[:-1]:
        _mark(memory, form, step, ACCESSED)
    if isinstance(found, Fault):
        return _stopped(found, asked, form)
    denial = _denial(found, write=write, user=user, fetch=fetch, control=control)
    leaf = steps[-1]
    if denial is not None:
        reason, bit = denial
        to_blame = next((step for step in steps if _takes_away(step, bit)), leaf)
        where = Fault(virtual, to_blame.level.name, to_blame.table, to_blame.index, to_blame.entry, reason)
        return _fault(where, "#PF", asked | PROTECTION)
    _mark(memory, form, leaf, ACCESSED | DIRTY * write)
    index = pat_index(leaf)
    return Access(
        physical=found.physical + virtual % found.size,
        leaf=found,
        steps=tuple(steps),
        references=references,
        pat_index=index,
        memory_type=memory_type(control.pat, index),
        is_global=control.pge and bool(leaf.entry & GLOBAL),
    )


def pat_index(leaf: Step) -> int:
    """Which byte of IA32_PAT counts for a page: its bits PAT, PCD and PWT as a number (table 11-11)."""
    flags = (WRITE_THROUGH, CACHE_DISABLE, leaf.level.pat)
    return sum(bool(leaf.entry & flag) << place for place, flag in enumerate(flags))


def memory_type(pat: int, index: int) -> str:
    """A byte of IA32_PAT in words.

    :raises UsageError: if it is one that WRMSR refuses
    """
    encoded = pat >> 8 * index & 0xFF
    if encoded not in MEMORY_TYPES:
        raise UsageError(f"IA32_PAT = {pat:#018x}: there is no memory type {encoded} (byte {index})")
    return MEMORY_TYPES[encoded]


def _from_registers(
    read: Read, held: PointerRegisters, virtual: int, form: PagingForm, steps: list[Step]
) -> Leaf | Fault:
    """A translation whose first entry is a register's."""
    level = form.levels[0]
    index = virtual >> level.shift & ((1 << level.bits) - 1)
    entry = held.entries[index]
    steps.append(Step(level, held.table, index, held.table + index * form.entry_size, entry))
    if not entry & PRESENT:
        return Fault(virtual, level.name, held.table, index, entry, "not present")
    below = replace(form, root=level.next_table, levels=form.levels[1:])
    return translate(read, entry, virtual, below, steps=steps)


def _stopped(fault: Fault, asked: int, form: PagingForm) -> AccessFault:
    """The exception for an address without a translation (4.7: a reserved bit counts as a protection violation)."""
    if not form.has(fault.virtual):
        return _fault(fault, "#GP", 0)
    if fault.entry is None:
        return _fault(fault, "", 0)
    return _fault(fault, "#PF", asked | (PROTECTION | RESERVED if fault.entry & PRESENT else 0))


def _fault(fault: Fault, exception: str, error_code: int) -> AccessFault:
    return AccessFault(
        fault.virtual,
        fault.level,
        fault.table,
        fault.index,
        fault.entry,
        fault.reason,
        exception,
        error_code,
    )


def _denial(leaf: Leaf, *, write: bool, user: bool, fetch: bool, control: Control) -> tuple[str, int] | None:
    """Why there is no right to an access, and the bit that took it away; ``None`` if there is (4.6.1)."""
    supervisor_at_users = leaf.user and not user
    for denied, reason, bit in (
        (user and not leaf.user, "it is the supervisor's", USER),
        (write and not leaf.writable and (user or control.wp), "it is read-only", WRITABLE),
        (fetch and not leaf.executable, "it is not executable", NX),
        (supervisor_at_users and fetch and control.smep, "SMEP: the supervisor executes no user's page", 0),
        (
            supervisor_at_users and not fetch and control.smap and not control.ac,
            "SMAP: the supervisor touches no user's page",
            0,
        ),
    ):
        if denied:
            return reason, bit
    return None


def _takes_away(step: Step, bit: int) -> bool:
    """Whether this entry denies what ``bit`` stands for: R/W and U/S deny when clear, XD when set."""
    return step.level.permissions and bool((step.entry ^ (WRITABLE | USER)) & bit)


def _mark(memory: Memory, form: PagingForm, step: Step, flags: int) -> None:
    """Set flags in an entry, where the level has them and they are not set yet."""
    marked = step.entry | flags
    if step.level.permissions and marked != step.entry:
        memory.write(step.address, struct.pack(f"<{form.entry}", marked))

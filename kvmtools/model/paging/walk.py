"""Page tables as the processor reads them: a form is a table of field widths, a walk is one plain recursion.

Source: Intel SDM volume 3A, chapter 4: 4.3 to 4.5 (the walks), 4.6 (access rights).  The forms are those of
:mod:`kvmtools.model.paging.forms`; what a processor does with an access is :mod:`kvmtools.model.paging.access`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvmtools.errors import MemoryFault
from kvmtools.model.paging.forms import NX, USER, WRITABLE, Level
from kvmtools.model.paging.forms import PRESENT as PRESENT
from kvmtools.model.paging.forms import PagingForm as PagingForm
from kvmtools.model.paging.forms import form_of as form_of
from kvmtools.model.paging.forms import long_mode as long_mode
from kvmtools.model.paging.forms import non_pae as non_pae
from kvmtools.model.paging.forms import pae as pae
from kvmtools.records import Leaf

Read = Callable[[int, int], bytes]
"""``read(physical, size)``; raises :class:`MemoryFault` where there is no RAM."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why ``virtual`` leads nowhere: the entry that stops the walk, and the reason in words."""

    virtual: int
    level: str
    table: int
    index: int
    entry: int | None
    """``None`` if no entry was read: the table is not in RAM, or there is no such address."""
    reason: str

    def __str__(self) -> str:
        raw = "" if self.entry is None else f" = {self.entry:#x}"
        return f"{self.virtual:#010x}: {self.level}[{self.index}] at {self.table:#x}{raw}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Step:
    """An entry that a translation read."""

    level: Level
    table: int
    index: int
    address: int
    """Physical address of the entry."""
    entry: int


def walk(
    read: Read,
    cr3: int,
    form: PagingForm,
    start: int = 0,
    end: int = 1 << 64,
    *,
    faults: list[Fault] | None = None,
) -> Iterator[Leaf]:
    """Every present leaf that touches ``[start, end)``, by ascending virtual address.

    A present entry that the processor would refuse (reserved bits set, a table outside RAM) maps nothing;
    it is appended to ``faults``.
    """
    malformed = [] if faults is None else faults
    root = form.levels[0]
    for window in form.windows:
        first, last = max(start, window.start), min(end, window.end)
        if first < last:
            # A window may begin within the table: the upper half of the canonical addresses does.
            base = window.start & -(root.span << root.bits)
            yield from _walk(read, cr3 & form.root, form, 0, base, first, last, (True, True, True), malformed)


def _walk(
    read: Read,
    table: int,
    form: PagingForm,
    depth: int,
    base: int,
    start: int,
    end: int,
    rights: tuple[bool, bool, bool],
    faults: list[Fault],
) -> Iterator[Leaf]:
    level = form.levels[depth]
    first = max(0, (start - base) >> level.shift)
    last = min((1 << level.bits) - 1, (end - 1 - base) >> level.shift)
    address = table + first * form.entry_size
    try:
        raw = read(address, (last - first + 1) * form.entry_size)
    except MemoryFault:
        virtual = base + (first << level.shift)
        faults.append(Fault(virtual, level.name, table, first, None, "the table is not in RAM"))
        return
    for index, entry in enumerate(struct.unpack(f"<{last - first + 1}{form.entry}", raw), first):
        if not entry & PRESENT:
            continue
        virtual = base + (index << level.shift)
        leaf = level.is_leaf(entry)
        reason = _refusal(level, entry, leaf)
        if reason:
            faults.append(Fault(virtual, level.name, table, index, entry, reason))
            continue
        below = _rights(level, entry, rights)
        if leaf:
            yield _mapping(level, virtual, table, index, entry, below)
        else:
            yield from _walk(
                read, entry & level.next_table, form, depth + 1, virtual, start, end, below, faults
            )


def translate(
    read: Read, cr3: int, virtual: int, form: PagingForm, *, steps: list[Step] | None = None
) -> Leaf | Fault:
    """The leaf that maps ``virtual``, or the entry that stops the walk.

    :param steps: every entry that was read is appended, from the root downwards; the last is the leaf, or the
        entry that stops the walk
    """
    table = cr3 & form.root
    rights = (True, True, True)
    if not form.has(virtual):
        return Fault(virtual, form.levels[0].name, table, 0, None, "there is no such address in this form")
    depth = 0
    while True:
        level = form.levels[depth]
        index = (virtual >> level.shift) & ((1 << level.bits) - 1)
        address = table + index * form.entry_size
        try:
            raw = read(address, form.entry_size)
        except MemoryFault:
            return Fault(virtual, level.name, table, index, None, "the table is not in RAM")
        (entry,) = struct.unpack(f"<{form.entry}", raw)
        if steps is not None:
            steps.append(Step(level, table, index, address, entry))
        if not entry & PRESENT:
            return Fault(virtual, level.name, table, index, entry, "not present")
        leaf = level.is_leaf(entry)
        reason = _refusal(level, entry, leaf)
        if reason:
            return Fault(virtual, level.name, table, index, entry, reason)
        rights = _rights(level, entry, rights)
        if leaf:
            return _mapping(level, virtual & -level.span, table, index, entry, rights)
        table = entry & level.next_table
        depth += 1


def _refusal(level: Level, entry: int, leaf: bool) -> str:
    """Why the processor refuses a present entry; empty if it does not."""
    wrong = entry & (level.leaf_reserved if leaf else level.reserved)
    return f"reserved bits {wrong:#x} are set" if wrong else ""


def _rights(level: Level, entry: int, above: tuple[bool, bool, bool]) -> tuple[bool, bool, bool]:
    """(writable, user, executable): each level can only take away."""
    if not level.permissions:
        return above
    writable, user, executable = above
    return (
        writable and bool(entry & WRITABLE),
        user and bool(entry & USER),
        executable and not entry & NX,
    )


def _mapping(
    level: Level, virtual: int, table: int, index: int, entry: int, rights: tuple[bool, bool, bool]
) -> Leaf:
    # By position: a walk of a whole guest comes here for every page, and names cost it a tenth of its time.
    return Leaf(virtual, level.physical(entry), level.span, entry, level.number, table, index, *rights)

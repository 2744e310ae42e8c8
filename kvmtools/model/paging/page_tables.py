"""Builds the tables that :mod:`kvmtools.model.paging.walk` walks: map, unmap, and give empty tables back.

Source: Intel SDM volume 3A, 4.3 to 4.5.  How a kernel hangs its tables together, and what it puts in the entries that
lead to them, is that of arch/x86/include/asm/pgalloc.h (6.1); ``map`` refuses what a kernel calls a bug.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kvmtools.errors import KvmtoolsError, UsageError
from kvmtools.model.paging.forms import PAGE_SIZE_BIT, PRESENT, USER, WRITABLE, Level, PagingForm
from kvmtools.model.paging.physical import Memory
from kvmtools.model.paging.walk import Fault, Step, translate
from kvmtools.records import PAGE_SIZE, Leaf

EVERYTHING = PRESENT | WRITABLE | USER
"""Flags of an entry that leads to a table: it grants all, and the leaf decides."""


class Table(NamedTuple):
    """A table in use: its level and its physical address."""

    level: Level
    address: int


class PageTables:
    """One set of page tables, from its root down.

    :param memory: where the tables lie
    :param allocate: physical address of a free page frame, for a table
    :param root: physical address of a first table that exists; by default a new one
    :param release: told the physical address of a table that has become empty
    :param table_flags: of entries that lead to a table; a PDPTE of PAE paging has PRESENT alone (table 4-8)
    """

    def __init__(
        self,
        memory: Memory,
        form: PagingForm,
        allocate: Callable[[], int],
        root: int | None = None,
        *,
        release: Callable[[int], None] = lambda _address: None,
        table_flags: int = EVERYTHING,
    ) -> None:
        self.memory = memory
        self.form = form
        self._levels = form.leaf_levels
        self._allocate = allocate
        self._release = release
        self._table_flags = table_flags
        if root is None:
            root = self._frame(form.root)
            self._clear(form.levels[0], root)
        self.root = root

    def map(
        self, virtual: int, physical: int, *, size: int = PAGE_SIZE, flags: int = PRESENT | WRITABLE
    ) -> None:
        """One leaf of ``size`` bytes; the tables that it needs come into being.

        :param flags: bits of the leaf beside its address; the size bit of a large one is set here
        :raises UsageError: if the form has no such leaf or address, or something is mapped there already; then
            nothing has changed
        """
        level = self._level(size, virtual)
        entry = _leaf(level, self.form, physical, flags)
        gap = self._gap(virtual)
        if gap.level.number < level.number:
            raise UsageError(
                f"{virtual:#x}: a table of smaller pages is where a {size:#x}-byte one should be"
            )
        self._hang(gap, level, virtual, entry)

    def populate(self, virtual: int) -> None:
        """The tables that a small page at ``virtual`` will need, as page_table_range_init() prepares them at boot.

        :raises UsageError: if something is mapped there
        """
        level = self._level(PAGE_SIZE, virtual)
        gap = self._gap(virtual)
        if gap.level.number > level.number:
            self._hang(gap, level, virtual, 0)

    def unmap(self, virtual: int, size: int = PAGE_SIZE) -> Leaf:
        """Take a leaf away, and the tables that are empty without it, except the first.

        :returns: the leaf that was there
        :raises UsageError: if no leaf of this size begins at ``virtual``
        """
        self._level(size, virtual)
        steps: list[Step] = []
        found = translate(self.memory.read, self.root, virtual, self.form, steps=steps)
        if isinstance(found, Fault):
            raise UsageError(f"nothing to unmap at {found}")
        if found.size != size:
            raise UsageError(f"{virtual:#x} is mapped by a leaf of {found.size:#x} bytes, not {size:#x}")
        self._write(steps.pop().address, 0)
        below = found.table
        while steps and not any(self.memory.read(below, PAGE_SIZE)):
            above = steps.pop()
            self._write(above.address, 0)
            self._release(below)
            below = above.table
        return found

    def tables(self) -> Iterator[Table]:
        """Every table in use, each before those that it leads to; the first is the root."""
        return self._tables(0, self.root & self.form.root)

    def _tables(self, depth: int, address: int) -> Iterator[Table]:
        level = self.form.levels[depth]
        yield Table(level, address)
        if level.next_table:
            raw = self.memory.read(address, self.form.entry_size << level.bits)
            for (entry,) in struct.iter_unpack(f"<{self.form.entry}", raw):
                if entry & PRESENT and not level.is_leaf(entry):
                    yield from self._tables(depth + 1, entry & level.next_table)

    def _level(self, size: int, virtual: int) -> Level:
        """The level of leaves of this size, if one can begin at this address."""
        levels = self._levels
        if size not in levels:
            sizes = ", ".join(f"{known:#x}" for known in levels)
            raise UsageError(f"{self.form.name} paging has no leaf of {size:#x} bytes: {sizes}")
        if virtual % size:
            raise UsageError(f"virtual address {virtual:#x} is not aligned to {size:#x}")
        if not self.form.has(virtual):
            raise UsageError(f"{self.form.name} paging has no virtual address {virtual:#x}")
        return levels[size]

    def _gap(self, virtual: int) -> Step:
        """The entry that is not present and so ends the walk to ``virtual``."""
        steps: list[Step] = []
        found = translate(self.memory.read, self.root, virtual, self.form, steps=steps)
        if isinstance(found, Leaf):
            raise UsageError(f"{virtual:#x} is mapped already: {found.size:#x} bytes to {found.physical:#x}")
        if found.entry is None or found.entry & PRESENT:
            raise UsageError(f"cannot map {found}")
        return steps[-1]

    def _hang(self, stop: Step, leaf: Level, virtual: int, entry: int) -> None:
        """Put a leaf below the entry that ended the walk, with as many new tables as it takes."""
        missing = [level for level in self.form.levels if leaf.number <= level.number < stop.level.number]
        at, above = stop.address, stop.level
        for level, table in self._new(missing, above.next_table):
            self._clear(level, table)
            self._write(at, table | (self._table_flags if above.permissions else PRESENT))
            index = (virtual >> level.shift) & ((1 << level.bits) - 1)
            at, above = table + index * self.form.entry_size, level
        self._write(at, entry)

    def _new(self, levels: list[Level], mask: int) -> list[Table]:
        """A table for each level or none: memory that runs out half-way leaves nothing behind."""
        tables: list[Table] = []
        try:
            tables.extend(Table(level, self._frame(mask)) for level in levels)
        except KvmtoolsError:
            for table in tables:
                self._release(table.address)
            raise
        return tables

    def _frame(self, mask: int) -> int:
        """A frame whose address an entry, or CR3, can hold."""
        frame = self._allocate()
        if frame & ~mask:
            self._release(frame)
            raise UsageError(f"{self.form.name} paging can have no table at {frame:#x}")
        return frame

    def _clear(self, level: Level, table: int) -> None:
        self.memory.write(table, bytes(self.form.entry_size << level.bits))

    def _write(self, address: int, entry: int) -> None:
        self.memory.write(address, struct.pack(f"<{self.form.entry}", entry))


def _leaf(level: Level, form: PagingForm, physical: int, flags: int) -> int:
    """The entry, if it says all that was asked for and nothing that the processor refuses."""
    if physical % level.span:
        raise UsageError(f"physical address {physical:#x} is not aligned to {level.span:#x}")
    address = level.leaf_to(physical)
    if level.physical(address) != physical:
        raise UsageError(f"a leaf of {form.name} paging cannot hold the physical address {physical:#x}")
    taken = level.leaf | level.leaf_high[0] | level.leaf_reserved
    if not flags & PRESENT:
        raise UsageError(f"flags {flags:#x} lack the present bit: they map nothing")
    if flags & taken or flags >> 8 * form.entry_size:
        raise UsageError(f"flags {flags:#x} are not all flags of a {level.span:#x}-byte leaf")
    entry = address | flags
    return entry | PAGE_SIZE_BIT if level.next_table else entry

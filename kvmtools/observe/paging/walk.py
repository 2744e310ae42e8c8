"""The observer's page-table walker: whole levels at a time, one NumPy expression over all entries of a level.

It reports what the tables say and judges nothing: mappings to MMIO are leaves like any other, and a table
that lies outside RAM is a row of :class:`Tables` whose ``readable`` is false.  Source: Intel SDM vol. 3A,
4.3, 4.4 and 4.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.paging.forms import NO_EXECUTE, PRESENT, USER, WRITABLE, Form, Level
from kvmtools.observe.paging.tables import U64, Flags, leaf_mask, leaf_physical, read_tables, side_by_side
from kvmtools.observe.paging.translate import Step, Translation, translate
from kvmtools.records import Leaf, Range

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory

__all__ = ["Step", "Tables", "Translation", "Walk", "last_tables", "translate", "walk"]


_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Tables:
    """Every table that the walk came through, top level first; columns of shape ``(number of tables,)``.

    A table that several entries lead to has a row for each of them.
    """

    physical: U64
    level: NDArray[np.uint8]
    virtual: U64
    """The first address that the table maps."""
    parent_entry: U64
    """The raw entry that leads to it; CR3 for the first table."""
    readable: Flags
    """False if the table, or a part of it, lies outside RAM: nothing below it is known."""

    def __len__(self) -> int:
        return len(self.physical)


@dataclass(frozen=True, eq=False)
class Walk:
    """Every present leaf, in order of address; columns of shape ``(number of leaves,)``.

    ``level`` counts from 1 at the 4 KiB pages; ``writable``, ``user`` and ``executable`` are effective, over
    all levels; ``table`` and ``index`` say where the raw ``entry`` stands.
    """

    form: Form
    virtual: U64
    physical: U64
    size: U64
    entry: U64
    level: NDArray[np.uint8]
    table: U64
    index: NDArray[np.uint16]
    writable: Flags
    user: Flags
    executable: Flags
    tables: Tables

    def __len__(self) -> int:
        return len(self.virtual)

    def mapping(self, row: int) -> Leaf:
        """One leaf as a record."""
        return Leaf(**{field.name: getattr(self, field.name)[row].item() for field in fields(Leaf)})

    def mappings(self, rows: slice = slice(None)) -> Iterator[Leaf]:
        """Leaves as records, in order of address; made a few thousand at a time, for there may be millions."""
        start, stop, _step = rows.indices(len(self))
        columns = [getattr(self, field.name) for field in fields(Leaf)]
        for at in range(start, stop, _BATCH):
            batch = slice(at, min(at + _BATCH, stop))
            for row in zip(*(column[batch].tolist() for column in columns), strict=True):
                yield Leaf(*row)

    def rows(self, virtual: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        """Row of the leaf that maps each address, -1 where nothing does; same shape as ``virtual``."""
        wanted = np.asarray(virtual, np.uint64)
        if not len(self):
            return np.full(wanted.shape, -1, np.intp)
        row = np.searchsorted(self.virtual, wanted, "right") - 1
        inside = (row >= 0) & (wanted - self.virtual[row] < self.size[row])
        return np.where(inside, row, -1)

    def within(self, start: int, end: int) -> slice:
        """The rows whose leaves begin in ``[start, end)``."""
        first, last = np.searchsorted(self.virtual, np.array([start, end], np.uint64))
        return slice(int(first), int(last))


@dataclass(frozen=True, eq=False)
class _Front:
    """The tables of one level that are still to be read, with the permissions inherited from above."""

    physical: U64
    virtual: U64
    parent_entry: U64
    granted: U64
    """RW and US as far as all levels above grant them, NX if any of them sets it."""


def walk(memory: PhysicalMemory, cr3: int, form: Form, *, start: int = 0, end: int | None = None) -> Walk:
    """All present leaves whose pages touch ``[start, end)`` in the tables that ``cr3`` points at.

    :param end: the end of the address space if ``None``
    :raises MemoryFault: if a table lies in RAM that a snapshot has not captured
    """
    wanted = Range(start, form.address_end if end is None else end)
    front = _Front(_u64(cr3 & form.cr3), _u64(0), _u64(cr3), _u64(WRITABLE | USER))
    leaves: list[dict[str, NDArray[np.generic]]] = []
    tables: list[dict[str, NDArray[np.generic]]] = []
    for level in form.levels:
        entries, readable = read_tables(memory, front.physical, level, form.entry_size)
        tables.append(
            {
                "physical": front.physical,
                "level": np.full(len(front.physical), level.number, np.uint8),
                "virtual": front.virtual,
                "parent_entry": front.parent_entry,
                "readable": readable,
            }
        )
        found, front = _step(front, level, entries, wanted)
        leaves.append(found)
    columns = _concatenate(leaves)
    order = np.argsort(columns["virtual"], kind="stable")
    return Walk(
        form=form,
        tables=Tables(**_concatenate(tables)),  # type: ignore[arg-type]  # one dict for columns of several types
        **{name: column[order] for name, column in columns.items()},  # type: ignore[arg-type]
    )


def last_tables(
    memory: PhysicalMemory, roots: Sequence[int], form: Form, *, start: int = 0, end: int | None = None
) -> Iterator[Range]:
    """Where the last level's tables for ``[start, end)`` lie, in all address spaces at once; all above them is read.

    A walk of each would read as much and decode it; but the guest is held meanwhile, and there may be hundreds, or a
    million entries.

    :param roots: what CR3 would hold, one for each address space
    """
    wanted = Range(start, form.address_end if end is None else end)
    tops = np.array(roots, np.uint64) & np.uint64(form.cr3)
    front = _Front(tops, np.zeros_like(tops), tops, np.full_like(tops, WRITABLE | USER))
    for level in form.levels[:-1]:
        entries, _readable = read_tables(memory, front.physical, level, form.entry_size)
        _leaves, front = _step(front, level, entries, wanted)
    tables, size = np.unique(front.physical), form.levels[-1].entries * form.entry_size
    for rows in side_by_side(tables, size):
        first = int(tables[rows.start])
        yield Range(first, first + len(rows) * size)


def _u64(value: int) -> U64:
    return np.array([value], np.uint64)


def _concatenate(parts: list[dict[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _step(
    front: _Front, level: Level, entries: NDArray[np.unsignedinteger], wanted: Range
) -> tuple[dict[str, NDArray[np.generic]], _Front]:
    """Split one level's present entries, ``(tables, entries)``, into leaves and the tables of the next."""
    row, index = np.nonzero(entries & entries.dtype.type(PRESENT))
    entry = entries[row, index].astype(np.uint64)
    virtual = front.virtual[row] + (index.astype(np.uint64) << np.uint64(level.shift))
    touched = (virtual < wanted.end) & (virtual + np.uint64(level.span) > wanted.start)
    if not touched.all():
        row, index, entry, virtual = row[touched], index[touched], entry[touched], virtual[touched]

    granted = front.granted[row]
    if level.permissions:
        # RW and US must be granted by every level; NX of any level is enough.
        both = np.uint64(WRITABLE | USER)
        granted = (granted & entry & both) | ((granted | entry) & np.uint64(NO_EXECUTE))

    leaf = leaf_mask(entry, level)
    branch = ~leaf
    physical = leaf_physical(entry[leaf], level)
    permission = granted[leaf]
    found: dict[str, NDArray[np.generic]] = {
        "virtual": virtual[leaf],
        "physical": physical,
        "size": np.full(len(physical), level.span, np.uint64),
        "entry": entry[leaf],
        "level": np.full(len(physical), level.number, np.uint8),
        "table": front.physical[row[leaf]],
        "index": index[leaf].astype(np.uint16),
        "writable": permission & np.uint64(WRITABLE) != 0,
        "user": permission & np.uint64(USER) != 0,
        "executable": permission & np.uint64(NO_EXECUTE) == 0,
    }
    below = _Front(entry[branch] & np.uint64(level.address), virtual[branch], entry[branch], granted[branch])
    return found, below

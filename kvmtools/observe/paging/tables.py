"""Whole tables of one level at once, as NumPy rows, and what their entries say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import MemoryFault
from kvmtools.observe.paging.forms import LARGE, Level
from kvmtools.observe.paging.translate import is_ram

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory

U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]


def read_tables(
    memory: PhysicalMemory, physical: U64, level: Level, entry_size: int
) -> tuple[NDArray[np.unsignedinteger], Flags]:
    """The tables at ``physical`` as ``(tables, entries)``, and which of them could be read; the others are
    zeros.

    Tables that lie side by side (as those of the boot-time linear map do) are read in one go.
    """
    size = level.entries * entry_size
    kind = np.dtype(f"<u{entry_size}")
    unique, inverse = np.unique(physical, return_inverse=True)
    entries = np.zeros((len(unique), level.entries), kind)
    readable = np.ones(len(unique), np.bool_)
    for rows in side_by_side(unique, size):
        try:
            view = memory.view(int(unique[rows.start]), size * len(rows))
        except MemoryFault:
            _read_one_by_one(memory, unique, rows, entries, readable)
        else:
            entries[rows.start : rows.stop] = np.frombuffer(view, kind).reshape(len(rows), level.entries)
    return entries[inverse], readable[inverse]


def _read_one_by_one(
    memory: PhysicalMemory,
    tables: U64,
    rows: range,
    entries: NDArray[np.unsignedinteger],
    readable: Flags,
) -> None:
    """Read what can be read of a run of tables that reaches out of RAM."""
    size = entries.shape[1] * entries.itemsize
    for row in rows:
        try:
            entries[row] = np.frombuffer(memory.view(int(tables[row]), size), entries.dtype)
        except MemoryFault as fault:
            if is_ram(memory, fault.address):
                raise  # it is there and was not captured: not the guest's fault
            readable[row] = False


def side_by_side(tables: U64, size: int) -> Iterator[range]:
    """Rows of ascending tables of ``size`` bytes each that follow each other without a gap."""
    cuts = (np.flatnonzero(np.diff(tables) != size) + 1).tolist()
    for first, last in pairwise([0, *cuts, len(tables)]):
        if first < last:  # there may be no tables at all
            yield range(first, last)


def leaf_mask(entry: U64, level: Level) -> Flags:
    if level.number == 1:
        return np.ones(len(entry), np.bool_)
    if not level.large:
        return np.zeros(len(entry), np.bool_)
    return (entry & np.uint64(LARGE)).astype(np.bool_)


def leaf_physical(entry: U64, level: Level) -> U64:
    physical = np.zeros(len(entry), np.uint64)
    for mask, shift in level.large or ((level.address, 0),):
        physical |= (entry & np.uint64(mask)) << np.uint64(shift)
    return physical

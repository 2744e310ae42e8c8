"""Many virtual addresses through one page table, level by level and all at once: where each leads, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.paging.forms import PRESENT, Form, Level
from kvmtools.observe.paging.tables import U64, Flags, leaf_mask, leaf_physical, read_tables
from kvmtools.observe.paging.translate import NOT_MAPPED

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory


def translate_many(memory: PhysicalMemory, cr3: int, virtual: NDArray[np.unsignedinteger], form: Form) -> U64:
    """The physical address of each byte, or :data:`NOT_MAPPED`; ``virtual`` and the result of shape ``(addresses,)``.

    Every table is read once, whole, however many addresses go through it; why one leads nowhere,
    :func:`kvmtools.observe.paging.translate.translate` tells.

    :raises MemoryFault: if a table lies in RAM that a snapshot has not captured
    """
    address = np.asarray(virtual, np.uint64)
    physical = np.full(len(address), NOT_MAPPED, np.uint64)
    asked = np.arange(len(address))  # those whose way goes on
    table = np.full(len(address), cr3 & form.cr3, np.uint64)
    for level in form.levels:
        entry = _entries(memory, table, address[asked], level, form)
        valid = _valid(entry, level)
        leaf = valid & leaf_mask(entry, level)
        found = asked[leaf]
        physical[found] = leaf_physical(entry[leaf], level) + address[found] % np.uint64(level.span)
        onward = valid & ~leaf
        asked, table = asked[onward], entry[onward] & np.uint64(level.address)
    return physical


def _entries(memory: PhysicalMemory, table: U64, address: U64, level: Level, form: Form) -> U64:
    """The entry of each address in its table; 0, which is not present, where the table lies outside RAM."""
    tables, which = np.unique(table, return_inverse=True)
    entries, _readable = read_tables(memory, tables, level, form.entry_size)
    index = address >> np.uint64(level.shift) & np.uint64(level.entries - 1)
    return entries[which, index.astype(np.intp)].astype(np.uint64)


def _valid(entry: U64, level: Level) -> Flags:
    """Present, and no reserved bit set (SDM vol. 3A, 4.7)."""
    reserved = np.full(len(entry), level.reserved, np.uint64)
    if level.large:
        reserved[leaf_mask(entry, level)] = level.large_reserved
    faults: Flags = (entry & np.uint64(PRESENT) == 0) | (entry & reserved != 0)
    return ~faults

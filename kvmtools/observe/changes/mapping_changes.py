"""What one page table maps and another does not, or maps otherwise; one expression over all leaves of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.paging.tables import U64
from kvmtools.observe.paging.walk import Walk

APPEARED, GONE, CHANGED = range(3)
CHANGES = ("appeared", "gone", "changed")

#: Flags that say how memory is reached: PWT, PCD and G stand in the same place in entries of all sizes (SDM vol. 3A,
#: 4.3, 4.4).  A and D are the CPU's, and set as it goes.
_FLAGS = np.uint64(1 << 3 | 1 << 4 | 1 << 8)


@dataclass(frozen=True, eq=False)
class MappingChanges:
    """Stretches of virtual space that one of the two maps differently, in order; columns of shape ``(stretches,)``."""

    change: NDArray[np.uint8]
    """Index into :data:`CHANGES`."""
    virtual: U64
    size: U64
    before: NDArray[np.intp]
    """Row of the first walk for the first page; -1 if it does not map it."""
    after: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.virtual)


def mapping_changes(before: Walk, after: Walk, boundaries: Sequence[int] = ()) -> MappingChanges:
    """Compare two walks page by page, whatever the size of their pages: a large page that was split is no change.

    Neighbours that changed alike are one stretch; their physical addresses need not follow one another.

    :param boundaries: ascending virtual addresses that no stretch goes across
    """
    edges = np.unique(
        np.concatenate(
            [
                *(column for walk in (before, after) for column in (walk.virtual, walk.virtual + walk.size)),
                np.array(boundaries, np.uint64),
            ]
        )
    )
    virtual, size = edges[:-1], np.diff(edges)
    old, new = before.rows(virtual), after.rows(virtual)
    both = (old >= 0) & (new >= 0)
    change = np.select([both, old >= 0], [CHANGED, GONE], APPEARED).astype(np.uint8)
    differs = (old >= 0) ^ (new >= 0)
    differs[both] = _differs(before, old[both], after, new[both], virtual[both])
    kept = np.flatnonzero(differs)
    change, virtual, size = change[kept], virtual[kept], size[kept]
    old, new = old[kept], new[kept]
    region = np.searchsorted(np.array(boundaries, np.uint64), virtual, "right")
    follows = np.zeros(len(kept), np.bool_)
    follows[1:] = (
        (virtual[:-1] + size[:-1] == virtual[1:])
        & (change[:-1] == change[1:])
        & (region[:-1] == region[1:])
        & _alike(before, old)
        & _alike(after, new)
    )
    first = np.flatnonzero(~follows)
    total = np.add.reduceat(size, first) if len(first) else size
    return MappingChanges(change[first], virtual[first], total, old[first], new[first])


def _differs(
    before: Walk, old: NDArray[np.intp], after: Walk, new: NDArray[np.intp], virtual: U64
) -> NDArray[np.bool_]:
    """Whether two leaves of the same address lead elsewhere, or by other rights."""
    there = before.physical[old] + (virtual - before.virtual[old])
    here = after.physical[new] + (virtual - after.virtual[new])
    found: NDArray[np.bool_] = (there != here) | (((before.entry[old] ^ after.entry[new]) & _FLAGS) != 0)
    for name in ("writable", "user", "executable"):
        found |= getattr(before, name)[old] != getattr(after, name)[new]
    return found


def _alike(walk: Walk, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether each row and the next have the same rights, or both are none."""
    if not len(walk):
        return np.ones(max(0, len(rows) - 1), np.bool_)
    rights = (
        (walk.entry[rows] & _FLAGS) << np.uint64(3)
        | walk.writable[rows].astype(np.uint64)
        | walk.user[rows].astype(np.uint64) << np.uint64(1)
        | walk.executable[rows].astype(np.uint64) << np.uint64(2)
    )
    rights[rows < 0] = 0
    return np.asarray(rights[:-1] == rights[1:], np.bool_)

"""Leaves coalesced into runs, for people: a linear map of 800 MiB is one line, not four hundred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.paging import U64, Flags, Walk

ACCESSED, DIRTY = 1 << 5, 1 << 6


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches that are contiguous in virtual and physical space and alike; columns of shape ``(number of
    runs,)``.

    ``size`` is the whole stretch's, ``page_size`` one page's; ``flags`` is the first entry without its
    address.
    """

    virtual: U64
    physical: U64
    size: U64
    page_size: U64
    count: NDArray[np.int64]
    flags: U64
    level: NDArray[np.uint8]
    writable: Flags
    user: Flags
    executable: Flags

    def __len__(self) -> int:
        return len(self.virtual)


def runs(walk: Walk, *, ignore: int = ACCESSED | DIRTY) -> Runs:
    """Join neighbouring leaves of one page size, equal effective permissions and equal flags.

    :param ignore: entry bits that may differ within a run; the CPU sets A and D as it goes
    """
    flags = walk.entry & ~_address_mask(walk) & ~np.uint64(ignore)
    follows = np.zeros(len(walk), np.bool_)
    follows[1:] = (
        (walk.virtual[:-1] + walk.size[:-1] == walk.virtual[1:])
        & (walk.physical[:-1] + walk.size[:-1] == walk.physical[1:])
        & _equal_neighbours(walk.size)
        & _equal_neighbours(flags)
        & _equal_neighbours(walk.writable)
        & _equal_neighbours(walk.user)
        & _equal_neighbours(walk.executable)
    )
    first = np.flatnonzero(~follows)
    count = np.diff(np.append(first, len(walk)))
    return Runs(
        virtual=walk.virtual[first],
        physical=walk.physical[first],
        size=walk.size[first] * count.astype(np.uint64),
        page_size=walk.size[first],
        count=count,
        flags=flags[first],
        level=walk.level[first],
        writable=walk.writable[first],
        user=walk.user[first],
        executable=walk.executable[first],
    )


def _equal_neighbours(column: NDArray[np.generic]) -> Flags:
    return np.asarray(column[:-1] == column[1:], np.bool_)


def _address_mask(walk: Walk) -> U64:
    """For every leaf, the bits of its entry that are the address."""
    mask = np.zeros(len(walk), np.uint64)
    for level in walk.form.levels:
        mask[walk.level == level.number] = level.large_address or level.address
    return mask

"""Leaves coalesced into runs, for people: a linear map of 800 MiB is one line, not four hundred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.paging.tables import U64, Flags
from kvmtools.observe.paging.walk import Walk

ACCESSED, DIRTY = 1 << 5, 1 << 6


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches that are contiguous in virtual space and alike; columns of shape ``(number of runs,)``.

    ``size`` is the whole stretch's, ``page_size`` one page's; ``flags`` is the first entry without its
    address.  ``physical`` is where the first page leads; the others follow it where ``linear`` is true.
    """

    virtual: U64
    physical: U64
    size: U64
    page_size: U64
    count: NDArray[np.int64]
    flags: U64
    level: NDArray[np.uint8]
    linear: Flags
    writable: Flags
    user: Flags
    executable: Flags

    def __len__(self) -> int:
        return len(self.virtual)


def runs(
    walk: Walk,
    *,
    ignore: int = ACCESSED | DIRTY,
    boundaries: Sequence[int] = (),
    scattered: bool = False,
) -> Runs:
    """Join neighbouring leaves of one page size, equal effective permissions and equal flags.

    :param ignore: entry bits that may differ within a run; the CPU sets A and D as it goes
    :param boundaries: ascending virtual addresses that no run goes across (a leaf may)
    :param scattered: join 4 KiB pages that are neighbours in virtual space only, as vmalloc's are
    """
    flags = walk.entry & ~_address_mask(walk) & ~np.uint64(ignore)
    region = np.searchsorted(np.array(boundaries, np.uint64), walk.virtual, "right")
    alike = np.zeros(len(walk), np.bool_)
    alike[1:] = (
        (walk.virtual[:-1] + walk.size[:-1] == walk.virtual[1:])
        & _equal_neighbours(walk.size)
        & _equal_neighbours(flags)
        & _equal_neighbours(walk.writable)
        & _equal_neighbours(walk.user)
        & _equal_neighbours(walk.executable)
        & _equal_neighbours(region)
    )
    in_line = np.zeros(len(walk), np.bool_)
    in_line[1:] = walk.physical[:-1] + walk.size[:-1] == walk.physical[1:]
    follows = alike & (in_line | (scattered & (walk.level == 1)))
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
        linear=_none_within(follows & ~in_line, first),
        writable=walk.writable[first],
        user=walk.user[first],
        executable=walk.executable[first],
    )


def _none_within(column: Flags, first: NDArray[np.intp]) -> Flags:
    """For every run, whether ``column`` is false in all its rows."""
    if not len(first):
        return np.zeros(0, np.bool_)
    return ~np.logical_or.reduceat(column, first)


def _equal_neighbours(column: NDArray[np.generic]) -> Flags:
    return np.asarray(column[:-1] == column[1:], np.bool_)


def _address_mask(walk: Walk) -> U64:
    """For every leaf, the bits of its entry that are the address."""
    mask = np.zeros(len(walk), np.uint64)
    for level in walk.form.levels:
        mask[walk.level == level.number] = level.large_address or level.address
    return mask

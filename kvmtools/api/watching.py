"""A live guest, looked at again and again: what ``kvmtools watch`` shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvmtools.api.pkmap import PkmapSlots, pkmap_slots
from kvmtools.api.zones import Zones, all_zones
from kvmtools.errors import SymbolsError, UsageError

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel
    from kvmtools.observe.kmap.pkmap import Pkmap


@dataclass(frozen=True)
class Look:
    """What one look saw, and what happened since the one before."""

    number: int
    """1 for the first."""
    seconds: float
    """Since the first look began."""
    milliseconds: float
    """For which the guest was held."""
    pkmap: PkmapSlots | None
    zones: Zones
    changed: int
    """Slots whose count or entry is another than at the last look."""
    flushes: int
    """How often ``flush_all_zero_pkmaps()`` was seen to have run, all looks together: at least once before this one if
    a slot has become free, for nothing else frees one (mm/highmem.c)."""


def looks(kernel: OpenKernel, interval: float, count: int | None) -> Iterator[Look]:
    """One look each ``interval`` seconds.

    :param count: how many; ``None`` for no end
    :raises UsageError: if the target cannot change
    :raises SymbolsError: if the guest was rebooted, and does not run its kernel again yet
    """
    if kernel.session.target.monitor is None:
        raise UsageError(
            "a core does not change", hint="watch a running guest; kvmtools pkmap and zones show a core"
        )
    started = time.monotonic()
    before: Pkmap | None = None
    flushes = number = 0
    while count is None or number < count:
        if number:
            time.sleep(max(0.0, started + number * interval - time.monotonic()))
        try:
            seen = kernel.observe(processes=False)
        except SymbolsError:  # it was rebooted: nothing of the other boot's is a change
            kernel.session.find_again()
            seen, before = kernel.observe(processes=False), None
        number += 1
        after = seen.pkmap
        changed = 0
        if before is not None and after is not None:
            changed = int(np.count_nonzero((before.counts != after.counts) | (before.ptes != after.ptes)))
            flushes += flushed(before, after)
        before = after
        yield Look(
            number=number,
            seconds=time.monotonic() - started,
            milliseconds=kernel.pauses[-1].milliseconds,
            pkmap=pkmap_slots(seen),
            zones=all_zones(seen),
            changed=changed,
            flushes=flushes,
        )


def flushed(before: Pkmap, after: Pkmap) -> bool:
    """Whether pkmap was flushed in between: a slot that was not free is, or the cursor came round."""
    freed = (before.counts != 0) & (after.counts == 0)
    return bool(freed.any()) or after.cursor < before.cursor

"""The plain walker's share: everything while that is little, an even choice of page tables where it is not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from recorded_guest import RecordedGuest, load

from kvmtools.compare.rules import walkers
from kvmtools.compare.rules.walkers import plain_share, table_parts, walkers_agree


def directory_shift(recorded: RecordedGuest) -> int:
    return recorded.healthy.prediction.form.levels[-2].shift


def test_little_is_looked_at_in_full(recorded: RecordedGuest) -> None:
    healthy = recorded.healthy
    assert walkers_agree(healthy).examined == sum(len(space.walk) for space in healthy.address_spaces)


def test_of_much_an_even_choice_of_the_kernel_and_of_the_processes(
    recorded: RecordedGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, shift = recorded.healthy, directory_shift(recorded)
    users = sum(len(space.walk) for space in healthy.processes)
    monkeypatch.setattr(walkers, "PLAIN_LEAVES", min(users, len(healthy.kernel_walk)) // 2)
    chosen = [
        (space, part)
        for spaces in ((healthy.kernel_space,), healthy.processes)
        for space, part in plain_share(spaces, shift, walkers.PLAIN_LEAVES)
    ]
    leaves = [space.walk.within(part.start, part.end) for space, part in chosen]
    seen = walkers_agree(healthy)
    assert seen.total == 0
    assert seen.examined == sum(rows.stop - rows.start for rows in leaves) < users + len(healthy.kernel_walk)
    assert {space.pid for space, _part in chosen} > {None}


def test_the_choice_is_every_nth_part_and_always_the_same(recorded: RecordedGuest) -> None:
    spaces, shift = recorded.healthy.processes, directory_shift(recorded)
    users = sum(len(space.walk) for space in spaces)
    everything = [(space, part) for space in spaces for part in table_parts(space, shift)]
    for leaves, every in ((users, 1), (users - 1, 2), (users // 3, 4), (1, users)):
        assert list(plain_share(spaces, shift, leaves)) == everything[::every]


def test_parts_leave_nothing_out(recorded: RecordedGuest) -> None:
    """What the observer does not see must be looked at, too: also where it sees no table."""
    for space in recorded.healthy.processes:
        parts = table_parts(space, directory_shift(recorded))
        assert (parts[0].start, parts[-1].end) == (space.start, space.end)
        assert all(before.end == after.start for before, after in pairwise(parts))
        assert len(parts) > 1


def test_one_refused_entry_is_one_finding_whatever_lies_below() -> None:
    """A directory entry of a process with bit 55 set: the processor never comes to the leaves behind it."""
    recorded = load("pae")
    (space, *_others) = recorded.healthy.processes
    tables = space.walk.tables
    row = int(np.flatnonzero(tables.level == 1)[0])
    address = int(tables.virtual[row])
    parent = np.flatnonzero((tables.level == 2) & (tables.virtual <= tables.virtual[row]))[-1]
    index = address >> directory_shift(recorded) & 0x1FF
    place = int(tables.physical[parent]) + 8 * index
    recorded.write_physical(place, int(tables.parent_entry[row]) | 1 << 55, 8)
    (found,) = recorded.check(only=("pagetable.reserved-bits", "pagetable.walkers-agree")).findings
    assert (found.rule, found.subject) == ("pagetable.reserved-bits", space.subject(address))
    assert (found.virtual, found.physical) == (address, place)
    assert found.observed == f"pmd[{index}]: reserved bits {1 << 55:#x} are set"

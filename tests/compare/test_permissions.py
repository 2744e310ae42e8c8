"""A leaf and the regions that it lies in, of which a large one may have two."""

from __future__ import annotations

from typing import Any

import numpy as np
from recorded_guest import RecordedGuest

from kvmtools.compare.rules.permissions import permissions
from kvmtools.records import Expectation


class Divided:
    """The case of a healthy guest, but for what is expected."""

    def __init__(self, guest: RecordedGuest, *expectations: Expectation) -> None:
        self._case = guest.healthy
        self.prediction = self
        self.expectations = expectations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._case, name)


def test_a_large_leaf_in_two_regions_is_wrong_once(recorded: RecordedGuest) -> None:
    walk = recorded.healthy.kernel_walk
    row = int(np.flatnonzero((walk.level == 2) & walk.writable)[0])
    start, size = int(walk.virtual[row]), int(walk.size[row])
    middle, end = start + size // 2, start + size
    lower = Expectation("lower half", start, middle, "all", writable=False)
    upper = Expectation("upper half", middle, end, "all", writable=False, executable=not walk.executable[row])
    seen = permissions(Divided(recorded, lower, upper))  # type: ignore[arg-type]
    (finding,) = seen.findings
    assert (seen.examined, finding.subject) == (2, f"virtual {start:#x}")
    other = "NX" if walk.executable[row] else "x"
    assert finding.expected == f"RO: lower half; RO {other}: upper half"
    assert finding.observed == f"RW {'x' if walk.executable[row] else 'NX'}"
    # Right in one of them is not right.
    right = Expectation("upper half", middle, end, "all", writable=True)
    (finding,) = permissions(Divided(recorded, lower, right)).findings  # type: ignore[arg-type]
    assert finding.expected == "RO: lower half"

"""What became of a kernel: of each machine that it was booted on, and of its other live tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LIVE = "live"
"""In place of a machine: every live test that is not of one."""
ROWS = ("pae", "nopae", "both")
"""Which of our two kernels a test is about; ``both`` is any test whose name says neither."""
NOT_FOR_EVERY_KERNEL = re.compile(r"the (numa|sparse) kernel is not built\b")
"""Why a live test may be skipped: our variants are kernels of the distribution's source alone."""
AGREES, FAILED, INCONCLUSIVE, NOT_RUN = "agrees", "failed", "inconclusive", "not run"


class Place(NamedTuple):
    """Where a test belongs: one of our kernels, and a machine or ``live``."""

    row: str
    machine: str


@dataclass
class Verdict:
    """One version.

    :ivar trouble: why the tests did not run, or did not run to their end
    :ivar chosen: only some machines were asked for, and no other live tests
    :ivar tests: each test by what became of it and what was said of that; one that has not run has neither
    """

    version: str
    seconds: float = 0.0
    trouble: str = ""
    chosen: bool = False
    tests: dict[str, tuple[str, str]] = field(default_factory=dict)

    def tell(self, line: dict[str, Any]) -> Place | None:
        """Take a line of :mod:`matrix.told`; returns the place whose last test this was."""
        if "collected" in line:
            self.tests |= dict.fromkeys(line["collected"], (NOT_RUN, ""))
            return None
        name = line["test"]
        if self.tests.get(name, ("", ""))[0] != FAILED:  # what failed after it had passed has failed
            self.tests[name] = line["outcome"], line["words"]
        place = place_of(name)
        return None if any(outcome == NOT_RUN for _, outcome, _ in self._of(place)) else place

    @property
    def places(self) -> list[Place]:
        """All that there are, kernel by kernel, the machines first."""
        found = dict.fromkeys(map(place_of, self.tests))
        return sorted(found, key=lambda place: (ROWS.index(place.row), place.machine == LIVE))

    def says(self, place: Place) -> tuple[str, str]:
        """The verdict on a place, and why, or what its check said."""
        tests = list(self._of(place))
        for sort in (FAILED, NOT_RUN):
            if these := [(name, words) for name, outcome, words in tests if outcome == sort]:
                name, words = these[0]
                return sort, f"{len(these)} of {len(tests)}, {name.rpartition('/')[2]}: {words}".rstrip(": ")
        for _, outcome, words in tests:
            # Nothing that was left out speaks for a kernel.
            if outcome == "skipped" and (place.machine != LIVE or not NOT_FOR_EVERY_KERNEL.match(words)):
                return INCONCLUSIVE, f"skipped: {words}"
        if not any(outcome == "passed" for _, outcome, _ in tests):
            return INCONCLUSIVE, "nothing was run"
        return AGREES, next((words for _, outcome, words in tests if outcome == "passed" and words), "")

    @property
    def agrees(self) -> bool:
        """Every test ran to its end and passed, on every machine and besides, of both kernels."""
        return (
            not self.trouble
            and not self.missing
            and all(self.says(each)[0] == AGREES for each in self.places)
        )

    @property
    def missing(self) -> str:
        """What was not even begun."""
        for row in ROWS[:2]:
            has = [place.machine for place in self.places if place.row == row]
            if not [machine for machine in has if machine != LIVE]:
                return f"no machine of {row}"
            if not self.chosen and LIVE not in has:
                return f"no live test of {row}"
        return ""

    def _of(self, place: Place) -> Iterator[tuple[str, str, str]]:
        return ((name, *told) for name, told in self.tests.items() if place_of(name) == place)


def place_of(test: str) -> Place:
    """The kernel that a test's parameters or its name speak of, and the machine.

    >>> place_of("tests/live/test_machines.py::test_it[pae-2G mem=700M]")
    Place(row='pae', machine='2G mem=700M')
    >>> place_of("tests/live/test_walk.py::test_pae_only")
    Place(row='pae', machine='live')
    >>> place_of("tests/live/test_core.py::test_a_core")
    Place(row='both', machine='live')
    """
    file, _, name = test.partition("::")
    words = re.split(r"[^a-z0-9]+", name.lower())
    row = next((row for row in ("nopae", "pae") if row in words), "both")
    if file.rpartition("/")[2] != "test_machines.py":
        return Place(row, LIVE)
    parameters = name.partition("[")[2].removesuffix("]")
    return Place(row, parameters.removeprefix(f"{row}-").removesuffix(f"-{row}"))


def table(verdicts: Iterable[Verdict]) -> str:
    """Kernel by verdict, a line for each row that has tests."""
    lines = [("kernel", "", "machines", LIVE, "minutes", "verdict")]
    for verdict in verdicts:
        said = "agrees" if verdict.agrees else verdict.trouble or verdict.missing or "does not agree"
        places = verdict.places
        rows = [row for row in ROWS if any(place.row == row for place in places)]
        for row in rows or ("",):
            machines = Counter(
                verdict.says(each)[0] for each in places if each.row == row and each.machine != LIVE
            )
            live = Counter(outcome for _, outcome, _ in verdict._of(Place(row, LIVE)))
            minutes = f"{verdict.seconds / 60:.1f}"
            lines.append((verdict.version, row, _cell(machines), _cell(live), minutes, said))
    return "\n".join(_aligned(lines))


def _cell(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]

"""What became of a kernel: counted from pytest's JUnit file, or the reason why there is nothing to count."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("machines", "live")
ROWS = ("pae", "nopae", "both")
"""Which of our two kernels a test is about; ``both`` is any test whose name says neither."""


@dataclass
class Verdict:
    """One version.

    :ivar counts: row and column to the number of tests by outcome, "passed", "failed" or "skipped"
    :ivar trouble: why the tests did not run, or did not run to their end
    :ivar failures: names of the tests that failed
    """

    version: str
    seconds: float = 0.0
    trouble: str = ""
    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Every test ran to its end and passed, of both kernels and in both columns."""
        complete = all(
            self.counts.get((row, column), {}).get("passed") for row in ROWS[:2] for column in COLUMNS
        )
        return complete and not self.trouble and not self.failures

    def count(self, junit: Path) -> None:
        """Add what pytest has written."""
        for case in ElementTree.parse(junit).iter("testcase"):
            name, file = case.get("name", ""), case.get("classname", "").rpartition(".")[2]
            kinds = {child.tag for child in case}
            outcome = (
                "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            )
            place = row_of(name), "machines" if file == "test_machines" else "live"
            self.counts.setdefault(place, Counter())[outcome] += 1
            if outcome == "failed":
                self.failures.append(f"{file}::{name}")


def row_of(test: str) -> str:
    """The kernel that a test's parameters or its name speak of.

    >>> row_of("test_a_walk[nopae-64M]"), row_of("test_pae_only"), row_of("test_a_core")
    ('nopae', 'pae', 'both')
    """
    words = set(re.split(r"[^a-z0-9]+", test.lower()))
    return next((row for row in ("nopae", "pae") if row in words), "both")


def table(verdicts: Iterable[Verdict]) -> str:
    """Kernel by verdict, a line for each row that has tests."""
    lines = [("kernel", "", *COLUMNS, "minutes", "verdict")]
    for verdict in verdicts:
        less = f"{len(verdict.failures)} failed" if verdict.failures else "too few tests ran"
        said = "agrees" if verdict.agrees else verdict.trouble or less
        rows = [row for row in ROWS if any((row, column) in verdict.counts for column in COLUMNS)]
        for row in rows or ("",):
            cells = [_cell(verdict.counts.get((row, column), Counter())) for column in COLUMNS]
            lines.append((verdict.version, row, *cells, f"{verdict.seconds / 60:.1f}", said))
    return "\n".join(_aligned(lines))


def _cell(counts: Counter[str]) -> str:
    return ", ".join(
        f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome]
    )


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]

"""A plugin of pytest's: what becomes of each test, as it happens, a line of JSON each, in the file $MATRIX_TOLD.

The first line says which tests there are: one that never comes to its end is missed, whatever ended it.  With machines
in $MATRIX_MACHINES, there are only theirs.
"""

from __future__ import annotations

import json
import os

import pytest

from matrix.verdicts import place_of

VARIABLE, MACHINES = "MATRIX_TOLD", "MATRIX_MACHINES"
CHECK = "check"
"""The property of a test that holds the summary of ``kvmtools check``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if chosen := os.environ.get(MACHINES):
        items[:] = [item for item in items if place_of(item.nodeid).machine in chosen.split(",")]


def pytest_collection_finish(session: pytest.Session) -> None:
    _tell(collected=[item.nodeid for item in session.items])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.outcome == "passed" and report.when != "call":
        return
    words = dict(report.user_properties).get(CHECK, "")
    if report.outcome != "passed":
        words = _why(report)
    _tell(test=report.nodeid, outcome=report.outcome, words=words)


def _why(report: pytest.TestReport) -> str:
    """The reason of a skip, or the first line of what failed."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).partition("\n")[0]


def _tell(**line: object) -> None:
    with open(os.environ[VARIABLE], "a") as file:
        print(json.dumps(line), file=file)

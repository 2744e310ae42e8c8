"""A trial in a fork: real tests of the model against its real text, and against text with a mistake.

In an interpreter of its own, because a trial must start before the model is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import json, sys
from pathlib import Path
from mutants import trial
tests, old, new = json.loads(sys.argv[1])
path = trial.ROOT / "kvmtools" / "model" / "command_line.py"
source = path.read_text()
assert old in source
replacement = trial.Replacement("kvmtools.model.command_line", path, source.replace(old, new, 1).encode())
outcome = trial.run(tests, lambda test: 1.0, replacement)
assert "kvmtools.model" not in sys.modules
print(json.dumps([outcome.passed, outcome.test, outcome.timeout]))
"""

FILE = "tests/model/test_command_line.py"


@pytest.fixture(scope="module")
def tests() -> list[str]:
    """The tests of one small file."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", FILE]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in run.stdout.splitlines() if line.startswith(FILE)]


def outcome(tests: list[str], old: str, new: str) -> tuple[bool, str, bool]:
    command = [sys.executable, "-c", SCRIPT, json.dumps([tests, old, new])]
    environment = {"PYTHONPATH": str(ROOT / "tests")}
    run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    passed, test, timeout = json.loads(run.stdout)
    return passed, test, timeout


def test_the_model_as_it_is_passes(tests: list[str]) -> None:
    assert outcome(tests, "def memparse(", "def memparse(") == (True, tests[-1], False)
    backwards = tests[::-1]
    assert outcome(backwards, "def memparse(", "def memparse(") == (True, backwards[-1], False)


def test_a_mistake_in_a_table_is_noticed_by_a_test(tests: list[str]) -> None:
    passed, test, timeout = outcome(tests, '"KMGTPE"', '"MKGTPE"')
    assert (passed, timeout) == (False, False)
    assert test in tests


def test_a_model_that_cannot_be_imported_is_noticed_by_none_in_particular(tests: list[str]) -> None:
    assert outcome(tests, "import re", "import nothing_of_that_name") == (False, "", False)


def test_a_test_that_never_ends_is_ended(tests: list[str]) -> None:
    line = next(
        line
        for line in (ROOT / "kvmtools/model/command_line.py").read_text().splitlines()
        if "def options(" in line
    )
    passed, test, timeout = outcome(tests, line, f"{line}\n    while True:\n        pass\n")
    assert (passed, timeout) == (False, True)
    assert test in tests

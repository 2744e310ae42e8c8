"""The table of kernels: it says "agrees" of a kernel only if all its tests ran and passed, on every machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from matrix import __main__ as command
from matrix.sources import NoSource
from matrix.told import MACHINES, VARIABLE
from matrix.verdicts import Place, Verdict, place_of, table

MACHINE = "tests/live/test_machines.py::test_"
WALK = "tests/live/test_walk.py::test_walk"
TESTS = tuple(
    name
    for row in ("pae", "nopae")
    for name in (f"{MACHINE}a[64M-{row}]", f"{MACHINE}b[64M-{row}]", f"{WALK}[{row}]")
)
BOTH = "tests/live/test_core.py::test_a_core"


def heard(tests: Sequence[str] = (*TESTS, BOTH), **outcomes: tuple[str, str]) -> Verdict:
    """What came of these, all passed but for the ``outcomes`` of some, named by their ends, "_" for a blank."""
    verdict = Verdict("6.12", 90.0)
    verdict.tell({"collected": list(tests)})
    for name in tests:
        outcome, words = next(
            (outcomes[end] for end in outcomes if name.endswith(end.replace("_", "-") + "]")), ("passed", "")
        )
        if outcome:
            verdict.tell({"test": name, "outcome": outcome, "words": words})
    return verdict


@pytest.mark.parametrize(
    ("test", "place"),
    [
        ("tests/live/test_walk.py::test_a_walk[nopae-64M]", ("nopae", "live")),
        (f"{MACHINE}a[4G movablecore=50%-pae]", ("pae", "4G movablecore=50%")),
        (f"{MACHINE}a[nopae-2G]", ("nopae", "2G")),
        ("tests/live/test_walk.py::test_pae_has_nx", ("pae", "live")),
        ("tests/live/test_walk.py::test_paell[x]", ("both", "live")),
    ],
)
def test_a_tests_name_says_which_kernel_and_machine_it_is_about(test: str, place: tuple[str, str]) -> None:
    assert place_of(test) == place


def test_all_passed_is_agreement() -> None:
    verdict = heard()
    assert verdict.agrees
    assert table([verdict]).splitlines() == [
        "kernel         machines  live      minutes  verdict",
        "6.12    pae    1 agrees  1 passed  1.5      agrees",
        "6.12    nopae  1 agrees  1 passed  1.5      agrees",
        "6.12    both             1 passed  1.5      agrees",
    ]


def test_a_place_is_judged_when_its_last_test_has_ended() -> None:
    verdict = heard(TESTS, **{"64M_pae": ("", "")})
    passed = {"outcome": "passed", "words": ""}
    assert verdict.tell({"test": f"{MACHINE}a[64M-pae]", **passed, "words": "46 agree"}) is None
    assert verdict.says(Place("pae", "64M"))[0] == "not run"
    assert verdict.tell({"test": f"{MACHINE}b[64M-pae]", **passed}) == Place("pae", "64M")
    assert verdict.says(Place("pae", "64M")) == ("agrees", "46 agree")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (
            ("failed", "AssertionError: no"),
            "failed (2 of 2, test_machines.py::test_a[64M-pae]: AssertionError: no)",
        ),
        # What was left out says nothing for a kernel, and what never ended neither.
        (("skipped", "no such thing"), "inconclusive (skipped: no such thing)"),
        (("", ""), "not run (2 of 2, test_machines.py::test_a[64M-pae])"),
    ],
)
def test_less_than_all_of_a_machine_is_no_agreement(
    outcome: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = heard(**{"64M_pae": outcome})
    command.say(verdict, Place("pae", "64M"))
    assert capsys.readouterr().err == f"matrix: 6.12 pae 64M: {said}\n"
    assert not verdict.agrees
    assert table([verdict]).splitlines()[1].endswith("does not agree")


def test_what_failed_at_its_end_has_failed() -> None:
    verdict = heard(TESTS)
    verdict.tell({"test": TESTS[0], "outcome": "failed", "words": "at its end"})
    verdict.tell({"test": TESTS[0], "outcome": "passed", "words": ""})
    assert verdict.says(place_of(TESTS[0]))[0] == "failed"


@pytest.mark.parametrize(
    ("reason", "agrees"),
    [
        ("the numa kernel is not built: kvmtools guest build numa", True),
        ("the pae kernel is not built", False),
        ("no gdb", False),
    ],
)
def test_other_tests_are_skipped_for_our_variants_alone(reason: str, agrees: bool) -> None:
    verdict = heard((*TESTS, f"{WALK}[pae-x]"), pae_x=("skipped", reason))
    assert verdict.agrees is agrees
    assert "1 passed, 1 skipped" in table([verdict])


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ([name for name in TESTS if "nopae" not in name], "no machine of nopae"),
        ([name for name in TESTS if "test_machines" not in name], "no machine of pae"),
        ([name for name in TESTS if "test_walk" not in name], "no live test of pae"),
        ([], "no machine of pae"),
    ],
)
def test_half_of_what_is_to_be_run_is_no_agreement(tests: list[str], said: str) -> None:
    verdict = heard(tests)
    assert not verdict.agrees
    assert table([verdict]).splitlines()[1].endswith(said)


def test_what_pytest_tells_as_it_goes(tmp_path: Path) -> None:
    """The plugin in a pytest of its own: a line for each test, whatever becomes of it."""
    file = tmp_path / "test_machines.py"
    file.write_text(
        """
import pytest

@pytest.fixture
def broken():
    yield
    raise ValueError("at its end")

@pytest.mark.parametrize("name", ["64M-pae", "2G-pae"])
def test_fine(name, record_property):
    record_property("check", "46 agree")

def test_left_out():
    pytest.skip("no reason")

def test_wrong(name="x"):
    assert name == "y", "not y"

def test_ends_badly(broken): pass
"""
    )
    told = tmp_path / "told"
    environment = {**os.environ, VARIABLE: str(told), "PYTHONPATH": str(Path(__file__).parents[1])}
    run = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "matrix.told",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
    ]
    for machines, expected in (
        (
            "",
            {
                "test_fine[64M-pae]": ("passed", "46 agree"),
                "test_fine[2G-pae]": ("passed", "46 agree"),
                "test_left_out": ("skipped", "no reason"),
                "test_wrong": ("failed", "AssertionError: not y"),
                "test_ends_badly": ("failed", "ValueError: at its end"),
            },
        ),
        ("2G,3G", {"test_fine[2G-pae]": ("passed", "46 agree")}),
    ):
        told.write_text("")
        subprocess.run(
            [*run, str(file)], env=environment | {MACHINES: machines}, capture_output=True, check=False
        )
        verdict = Verdict("6.1")
        with told.open() as lines:
            for line in lines:
                verdict.tell(json.loads(line))
        seen = {name.partition("::")[2]: outcome for name, outcome in verdict.tests.items()}
        assert seen == expected


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command with commands of its own, and sources that can be had but for 5.10's."""
    monkeypatch.setattr(command, "LOGS", tmp_path)

    def obtain(version: str, progress: object) -> Path:
        if version == "5.10":
            raise NoSource("apt offers no linux-source-5.10")
        return tmp_path / version

    monkeypatch.setattr(command, "obtain", obtain)
    return tmp_path


def pretend(monkeypatch: pytest.MonkeyPatch, building: str, testing: str) -> None:
    monkeypatch.setattr(command, "BUILDING", ("-c", building))
    monkeypatch.setattr(command, "TESTING", ("-c", testing))


TELLS = f"""
import json, os, sys
print("source", os.environ["KVMTOOLS_SOURCE"])
with open(os.environ["{VARIABLE}"], "a") as told:
    print(json.dumps({{"collected": {list(TESTS)}}}), file=told)
    for test in {list(TESTS)}:
        print(json.dumps({{"test": test, "outcome": "passed", "words": "well"}}), file=told)
"""


def test_each_kernel_is_built_and_tested_with_its_own_source(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, "print('built')", TELLS)
    assert command.main(["6.1", "6.12"]) == 0
    said = capsys.readouterr()
    assert said.out.count("1 agrees") == 4
    for version in ("6.1", "6.12"):
        assert (scene / f"{version}.log").read_text() == f"built\nsource {scene / version}\n"
        assert f"matrix: {version} nopae 64M: agrees (well)\n" in said.err


@pytest.mark.parametrize(
    ("versions", "building", "testing", "said"),
    [
        (["5.10"], "", TELLS, "apt offers no linux-source-5.10"),
        (["6.1"], "raise SystemExit(3)", TELLS, "building ended with exit code 3"),
        # pytest's 1 is tests that failed: they were told; 2 and more is a run that did not end.
        (["6.1"], "", TELLS + "sys.exit(2)", "testing ended with exit code 2"),
        (["6.1"], "", "raise SystemExit(1)", "no machine of pae"),
        (["6.1"], "", "raise KeyboardInterrupt", "testing ended with exit code"),
    ],
)
def test_one_that_does_not_agree_ends_in_failure(
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    versions: list[str],
    building: str,
    testing: str,
    said: str,
) -> None:
    pretend(monkeypatch, building, testing)
    assert command.main(versions) == 1
    assert said in capsys.readouterr().out


def test_an_interrupted_run_shows_what_it_has(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, "", TELLS)
    kept = command.judge

    def judge(verdict: Verdict, machines: str) -> None:
        if verdict.version == "6.12":
            raise KeyboardInterrupt
        kept(verdict, machines)

    monkeypatch.setattr(command, "judge", judge)
    assert command.main(["6.1", "6.12", "7.2"]) == 1
    table = capsys.readouterr().out
    assert table.count("agrees\n") == 2
    assert "interrupted" in table
    assert "7.2" not in table


def test_a_kernel_that_nobody_claims_is_a_mistake(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["6.1", "4.19"]) == 2
    assert "4.19" in capsys.readouterr().err
    assert list(scene.iterdir()) == []

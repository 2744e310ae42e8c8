"""The table of kernels: it says "agrees" of a kernel only if all its tests ran and passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrix import __main__ as command
from matrix.sources import NoSource
from matrix.verdicts import Verdict, row_of, table

PASSED = "".join(
    f'<testcase classname="tests.live.{file}" name="test_it[{name}]"/>'
    for file in ("test_machines", "test_walk")
    for name in ("pae-64M", "nopae-64M")
)
FAILED = '<testcase classname="tests.live.test_walk" name="test_one[nopae]"><failure message="x"/></testcase>'
SKIPPED = '<testcase classname="tests.live.test_walk" name="test_two"><skipped/></testcase>'


def counted(tmp_path: Path, cases: str) -> Verdict:
    (tmp_path / "junit.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    verdict = Verdict("6.12", 90.0)
    verdict.count(tmp_path / "junit.xml")
    return verdict


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("test_a_walk[nopae-64M]", "nopae"),
        ("test_a_walk[4G movablecore=50%-pae]", "pae"),
        ("test_pae_has_nx", "pae"),
        ("test_paell[x]", "both"),
    ],
)
def test_a_tests_name_says_which_kernel_it_is_about(name: str, row: str) -> None:
    assert row_of(name) == row


def test_all_passed_is_agreement(tmp_path: Path) -> None:
    verdict = counted(tmp_path, PASSED + SKIPPED)
    assert verdict.agrees
    assert table([verdict]).splitlines() == [
        "kernel         machines  live       minutes  verdict",
        "6.12    pae    1 passed  1 passed   1.5      agrees",
        "6.12    nopae  1 passed  1 passed   1.5      agrees",
        "6.12    both             1 skipped  1.5      agrees",
    ]


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (PASSED + FAILED, "1 failed"),
        (PASSED + FAILED.replace("failure", "error"), "1 failed"),
        # Half of what is to be run, run without fault, is no agreement.
        (PASSED.replace("nopae", "pae"), "too few tests ran"),
        (PASSED.replace("test_machines", "test_others"), "too few tests ran"),
        ("", "too few tests ran"),
    ],
)
def test_anything_less_is_none(tmp_path: Path, cases: str, said: str) -> None:
    verdict = counted(tmp_path, cases)
    assert not verdict.agrees
    assert table([verdict]).splitlines()[1].endswith(said)


def test_a_failure_is_named(tmp_path: Path) -> None:
    assert counted(tmp_path, PASSED + FAILED).failures == ["test_walk::test_one[nopae]"]


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
    monkeypatch.setattr(command, "COMMANDS", (("building", ("-c", building)), ("testing", ("-c", testing))))


WRITES = f"""
import os, sys
print("source", os.environ["KVMTOOLS_SOURCE"])
with open(sys.argv[-1].partition("=")[2], "w") as junit:
    junit.write({f"<testsuites>{PASSED}</testsuites>"!r})
"""


def test_each_kernel_is_built_and_tested_with_its_own_source(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, "print('built')", WRITES)
    assert command.main(["6.1", "6.12"]) == 0
    assert capsys.readouterr().out.count("agrees") == 4
    for version in ("6.1", "6.12"):
        assert (scene / f"{version}.log").read_text() == f"built\nsource {scene / version}\n"


@pytest.mark.parametrize(
    ("versions", "building", "testing", "said"),
    [
        (["5.10"], "", WRITES, "apt offers no linux-source-5.10"),
        (["6.1"], "raise SystemExit(3)", WRITES, "building ended with exit code 3"),
        # pytest's 1 is tests that failed: they are in the file; 2 and more is a run that did not end.
        (["6.1"], "", WRITES + "sys.exit(2)", "testing ended with exit code 2"),
        (["6.1"], "", "raise SystemExit(1)", "too few tests ran"),
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


def test_a_kernel_that_nobody_claims_is_a_mistake(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["6.1", "4.19"]) == 2
    assert "4.19" in capsys.readouterr().err
    assert list(scene.iterdir()) == []

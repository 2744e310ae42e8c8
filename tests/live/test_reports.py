"""Reports of a live guest: what docs/reports.md types, what the example workflows run, and the lines of the source."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import console_blocks
import pytest
from jsonschema import Draft202012Validator
from workflows import DOCS, GITHUB, github_steps, gitlab_job, load

import kvmtools
from kvmtools.boot.guests.record import Guest
from kvmtools.report.json_schema import json_schema

WORDS = {
    "pkmap_count": ("mm/highmem.c", "static int pkmap_count["),
    "page_address_htable": ("mm/highmem.c", "page_address_htable["),
    "kmap_high": ("mm/highmem.c", "kmap_high("),
    "struct page": ("include/linux/mm_types.h", "struct page {"),
    "struct zone": ("include/linux/mmzone.h", "struct zone {"),
    "swapper_pg_dir": ("arch/x86/include/asm/pgtable_32.h", "swapper_pg_dir["),
}
"""What stands where a name is declared: in which file, and words of the line."""


def test_a_finding_is_at_the_line_that_declares_its_thing(guest: Guest) -> None:
    assert guest.vmlinux is not None
    with kvmtools.open(guest=guest.name) as kernel:
        declared = kernel.check(only=["pkmap"], declared=True).declared
    places = {name: place.partition(":") for name, place in declared.items()}
    assert {name: places[name][0] for name in WORDS} == {name: file for name, (file, _) in WORDS.items()}
    assert set(declared) == {rule.about for rule in kvmtools.rules()}
    source = Path(json.loads((guest.vmlinux.parent / "kernel.json").read_text())["source"])
    if not source.is_dir():
        pytest.skip(f"the source that this kernel was built from is gone: {source}")
    for name, (file, words) in WORDS.items():
        line = (source / file).read_text(encoding="utf-8").splitlines()[int(places[name][2]) - 1]
        assert words in line, (name, line)


def test_a_recording_knows_the_lines_without_its_vmlinux(guest: Guest, tmp_path: Path) -> None:
    with kvmtools.open(guest=guest.name) as kernel:
        kernel.snapshot(tmp_path / "recording")
        declared = kernel.survey(only=["pkmap"]).result.declared
    with kvmtools.open(core=tmp_path / "recording") as kernel:
        assert kernel.vmlinux is None
        assert kernel.survey(only=["pkmap"]).result.declared == declared
    assert declared["pkmap_count"].startswith("mm/highmem.c:")


def test_a_survey_is_of_one_moment_and_holds_the_guest_no_longer_than_a_check(guest: Guest) -> None:
    with kvmtools.open(guest=guest.name) as kernel:
        survey = kernel.survey()
        assert survey.result.exit_code == 0
        assert len(kernel.pauses) == survey.result.samples
    assert survey.missing == ()
    assert survey.pages is not None
    assert survey.pages.pages << 12 >= guest.memory_bytes // 2


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "work").mkdir()
    yield tmp_path / "work"
    stop = ["bash", "-c", "kvmtools guest stop ci 2>&1 || true"]
    subprocess.run(stop, env=console_blocks.environment(tmp_path), check=False, capture_output=True)


def shell(line: str, folder: Path, *, code: int = 0) -> None:
    """Run a workflow's lines as its runner does: the first that fails ends them."""
    names = {name: str(value) for name, value in load(GITHUB)["env"].items()}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line],
        cwd=folder,
        env={**console_blocks.environment(folder.parent), **names, "KERNEL": "pae"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, (line, done.stdout, done.stderr)


def test_the_workflows_and_the_page_about_reports(folder: Path) -> None:
    steps, job = github_steps(), gitlab_job()
    assert {**load(GITHUB)["env"]} == job["variables"]
    shell(steps["Boot"], folder)
    shell(steps["Check"], folder)
    assert sorted(os.listdir(folder)) == ["kvmtools.html", "kvmtools.sarif", "kvmtools.xml"]
    for name in os.listdir(folder):
        (folder / name).unlink()
    *_, report = job["script"]
    shell(report, folder)
    assert sorted(os.listdir(folder)) == ["kvmtools.html", "kvmtools.sarif", "kvmtools.xml"]
    for name in os.listdir(folder):
        (folder / name).unlink()

    typed = list(console_blocks.typed((DOCS / "reports.md").read_text(encoding="utf-8")))
    assert len(typed) >= 6
    for each in typed:
        console_blocks.run(each, folder, console_blocks.environment(folder.parent))
    Draft202012Validator(json_schema()).validate(json.loads((folder / "ci.json").read_text()))

    shell(job["after_script"][0], folder)
    shell(steps["Check"], folder, code=3)  # the guest is gone: the step fails

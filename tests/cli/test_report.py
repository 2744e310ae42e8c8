"""``kvmtools report``: a page and the verdict, or one line and nothing left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from breaks.pkmap import pte_cleared
from opened_kernel import always_opens, recorded_session, session_of
from recorded_guest import load
from whole_memory import WholeMemory

from kvmtools.cli import run as run_command
from kvmtools.errors import KvmtoolsError
from kvmtools.report.page import to_html

Invoke = Callable[..., Any]


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    always_opens(monkeypatch, recorded_session("pae"))


@pytest.mark.usefixtures("healthy")
def test_a_healthy_guest(invoke: Invoke, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    outcome = invoke("report", "--html", str(page))
    assert outcome.code == 0
    assert outcome.out.startswith("✓ agrees with the model; 49 rules: ")
    assert outcome.err.startswith(f"kvmtools: wrote {page}, ")
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>\n")
    assert list(tmp_path.iterdir()) == [page]


def test_a_broken_guest_exits_as_check_does(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = load("nopae")
    subject = pte_cleared(guest)
    always_opens(monkeypatch, session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot))))
    outcome = invoke("report", "--html", str(tmp_path / "page.html"), "--only", "pkmap")
    assert outcome.code == 1
    assert "✗ differs from the model" in outcome.out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f">{subject}</a>" not in page
    assert f"{subject} of pkmap</a>" in page
    assert "memmap.zone" not in page
    skipping = invoke("report", "--html", str(tmp_path / "page.html"), "--skip", "pkmap,guest")
    assert "pkmap.pte-matches-count" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert skipping.code == 0


def test_one_verdict_in_every_form(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = load("pae")
    pte_cleared(guest)
    always_opens(monkeypatch, session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot))))
    files = {form: tmp_path / f"kvmtools.{form}" for form in ("html", "sarif", "junit", "json")}
    words = [word for form, file in files.items() for word in (f"--{form}", str(file))]
    outcome = invoke("report", *words)
    assert outcome.code == 1
    assert outcome.err.count("kvmtools: wrote ") == 4
    for form in ("sarif", "junit", "json"):
        checked = invoke("check", "--format", form)
        assert checked.code == 1
        assert files[form].read_text(encoding="utf-8") == checked.out
    outcome = invoke("report")
    assert (outcome.code, str(outcome.error)) == (
        2,
        "no file is named (--html FILE, or one of --sarif, --junit, --json)",
    )


def test_what_cannot_be_written_is_refused_before_the_guest_is_bothered(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bothered(**_options: object) -> None:
        pytest.fail("the guest was opened")

    monkeypatch.setattr("kvmtools.api.opening.open_kernel", bothered)
    outcome = invoke("report", "--html", str(tmp_path / "nowhere" / "page.html"))
    assert outcome.code == 3
    assert str(outcome.error).startswith(f"cannot write {tmp_path}/nowhere/page.html: No such file")
    assert list(tmp_path.iterdir()) == []
    assert invoke("report", "--html", str(tmp_path / "page.html"), "--only", "nothing").code == 2
    monkeypatch.setitem(sys.modules, "jinja2", None)
    outcome = invoke("report", "--html", str(tmp_path / "page.html"))
    assert (outcome.code, str(outcome.error)) == (
        2,
        "an HTML page needs jinja2 (pip install 'kvmtools[html]')",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["report", "./report", "there/../report", "link", "folder/report"])
def test_one_file_for_two_reports_is_refused_before_the_guest_is_bothered(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    def bothered(**_options: object) -> None:
        pytest.fail("the guest was opened")

    monkeypatch.setattr("kvmtools.api.opening.open_kernel", bothered)
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("report")
    (tmp_path / "folder").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    outcome = invoke("report", "--html", "report", "--json", other)
    assert (outcome.code, str(outcome.error)) == (
        2,
        f"--html and --json name the same file, {Path(other)} (name a file for each)",
    )
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("healthy")
def test_a_full_disk_leaves_the_old_page(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = invoke("report", "--html", str(page))
    assert outcome.code == 3
    assert str(outcome.error).startswith(f"cannot write {page}: No space left on device")
    assert outcome.out == ""
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.usefixtures("healthy")
def test_a_full_device(invoke: Invoke) -> None:
    outcome = invoke("report", "--html", "/dev/full")
    assert (outcome.code, outcome.out) == (3, "")
    assert isinstance(outcome.error, KvmtoolsError)


def test_run_goes_on_without_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from surveys import healthy

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = run_command._place_for_pages()
    assert place == tmp_path / "cache" / "kvmtools" / "reports"
    run_command._write_page(healthy(), place / "pae.html")
    assert (place / "pae.html").read_text(encoding="utf-8") == to_html(healthy())
    assert capsys.readouterr().err == f"kvmtools: pae: the page is {place}/pae.html\n"

    run_command._write_page(healthy(), tmp_path / "nowhere" / "pae.html")
    assert "cannot write" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert run_command._place_for_pages() is None
    assert "no pages are written: cannot write" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run_command._place_for_pages() is None
    assert "an HTML page needs jinja2" in capsys.readouterr().err

"""``kvmtools gdb-script``: the few lines that a user's gdb sources; in a real gdb, as far as that needs no guest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmtools.cli.gdb_script import script

Invoke = Callable[..., Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my cache"))
    return tmp_path / "my cache"


def gdb(*commands: str) -> subprocess.CompletedProcess[str]:
    words = ["gdb", "-nx", "-q", "-batch", *(word for command in commands for word in ("-ex", command))]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_the_path_is_printed_and_what_is_there_stays(invoke: Invoke) -> None:
    path = Path(invoke("gdb-script").out.rstrip("\n"))
    before = path.stat()
    assert path.suffix == ".py"
    assert repr(sys.executable) in path.read_text()
    assert Path(invoke("gdb-script").out.rstrip("\n")) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_somebody_spoilt_is_written_again() -> None:
    path, text = script(), script().read_text()
    path.write_text("spoilt")
    assert script() == path
    assert path.read_text() == text


def test_where_it_cannot_be_written_that_is_said(invoke: Invoke, cache: Path) -> None:
    cache.write_text("no folder")
    outcome = invoke("gdb-script")
    assert (outcome.code, outcome.out) == (3, "")
    assert str(outcome.error).startswith(f"cannot write {cache}/kvmtools/gdb/")


def test_each_installation_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first = script()
    monkeypatch.setattr(sys, "executable", "/opt/other/bin/python")
    assert script() != first
    assert first.exists()


def test_gdb_knows_the_commands_and_asks_for_a_connection() -> None:
    done = gdb(f"source {script()}", f"source {script()}", "help kvm", "help function kvm_page", "kvm regs")
    assert "kvm pkmap -- Draw the slots of pkmap" in done.stdout
    assert "The struct page of a page frame, as a pointer" in done.stdout
    assert done.stderr == "gdb is not connected to a QEMU (target remote ADDRESS)\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    "command", ["kvm vtop 0", "kvm symbols", "print $kvm_pte(0)", "print $kvm_page(0)", "kvm check"]
)
def test_without_a_connection_it_is_one_line(command: str) -> None:
    done = gdb(f"source {script()}", command)
    assert (done.returncode, done.stderr) == (1, "gdb is not connected to a QEMU (target remote ADDRESS)\n")


def test_an_interpreter_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/other/bin/python")
    done = gdb(f"source {script()}")
    assert done.stderr == (
        "the kvmtools that wrote this script is gone: source what `kvmtools gdb-script` prints\n"
    )


@pytest.mark.parametrize("name", ["my vmlinux", 'a"b', r"a\b", "ends in \\"])
def test_symbols_of_a_file_by_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    subprocess.run(["gcc", "-xc", "-c", "-", "-o", str(path)], input=b"int moved;", check=True)
    load = f"python sys.modules['kvmtools_gdb.commands'].load_symbols({str(path)!r}, 0x1000)"
    done = gdb(f"source {script()}", "python import sys", load, "python print(gdb.objfiles()[0].filename)")
    assert (done.stdout.splitlines()[-1:], done.stderr) == ([str(path)], "")

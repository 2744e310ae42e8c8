"""``kvmtools diff``: its words, its exit codes, and what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from json_documents import valid
from recorded_guest import GUESTS

from kvmtools.cli.diff import _two
from kvmtools.cli.options import TargetOptions

Invoke = Callable[..., Any]
PAE, NOPAE = (str(GUESTS / f"{name}.vmcore.zst") for name in ("pae", "nopae"))


def test_the_same(invoke: Invoke) -> None:
    done = invoke("diff", PAE, PAE)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("nothing is different\n")
    assert not valid(invoke("diff", PAE, PAE, "--format", "json").out)["different"]


def test_others(invoke: Invoke) -> None:
    done = invoke("diff", PAE, NOPAE)
    assert done.code == 1
    for part in ("other kernels: ", "\nmappings ", "\nprocesses ", "\npages ", "\npkmap: ", "\nzones "):
        assert part in done.out
    again = invoke("diff", PAE, "-c", NOPAE)
    assert (again.code, again.out) == (1, done.out)
    assert json.loads(invoke("diff", PAE, NOPAE, "--format", "json").out)["different"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "0 are named"),
        ([PAE, PAE, PAE], "3 are named"),
        ([PAE, NOPAE, "-g", "pae"], "--guest are three"),
        ([PAE, NOPAE, "-c", PAE], "--core are three"),
    ],
)
def test_two_are_wanted(invoke: Invoke, words: list[str], why: str) -> None:
    done = invoke("diff", *words)
    assert (done.code, done.out) == (2, "")
    assert why in str(done.error)


@pytest.mark.parametrize("place", [0, 1])
def test_a_file_that_is_none(invoke: Invoke, tmp_path: Path, place: int) -> None:
    other = tmp_path / "other"
    for text, why in ((None, "No such file"), ("", "is not an ELF file"), ("x" * 100, "is not an ELF file")):
        if text is not None:
            other.write_text(text)
        words = [PAE, PAE]
        words[place] = str(other)
        done = invoke("diff", *words)
        assert (done.code, done.out) == (3, "")
        assert why in str(done.error)
        assert str(other) in str(done.error)


def test_how_targets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TargetOptions(symbols=Path("vmlinux"), pause=False)
    first, second = _two(("guest:pae", "qemu:localhost:4444"), options)
    assert first == TargetOptions(guest="pae", symbols=Path("vmlinux"), pause=False)
    assert second == TargetOptions(qemu="localhost:4444", symbols=Path("vmlinux"), pause=False)
    assert _two(("gdb::1234", "libvirt:vm"), options)[0].gdb == ":1234"
    assert _two(("file",), TargetOptions(guest="pae")) == (
        TargetOptions(core=Path("file")),
        TargetOptions(guest="pae"),
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guest:pae").touch()
    assert _two(("guest:pae", "x"), options)[0].core == Path("guest:pae")


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m kvmtools diff {PAE} {NOPAE} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (f"- core {PAE}: 2 vCPUs, 96 MiB\n1\n", "")

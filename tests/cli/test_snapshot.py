"""``kvmtools snapshot``: as a person types it, and where it cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_guest import GUESTS

import kvmtools

Invoke = Callable[..., Any]
PAE = str(GUESTS / "pae.vmcore.zst")


@pytest.mark.parametrize("compress", [[], ["--zstd"]])
def test_a_recording_is_recorded(invoke: Invoke, tmp_path: Path, compress: list[str]) -> None:
    out = tmp_path / "out"
    done = invoke("snapshot", str(out), "-c", PAE, *compress)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{out}: ")
    assert out.read_bytes().startswith(b"\x28\xb5\x2f\xfd" if compress else b"\x7fELF")
    assert not kvmtools.diff(PAE, out)
    assert os.listdir(tmp_path) == ["out"]


def test_a_core_that_has_not_all_of_ram_cannot_be_written_in_full(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("snapshot", str(tmp_path / "out"), "-c", PAE, "--full")
    assert (done.code, done.out) == (3, "")
    assert "it was not captured" in str(done.error)
    assert os.listdir(tmp_path) == []


def test_no_place_for_it(invoke: Invoke, tmp_path: Path) -> None:
    for place, why in (
        (tmp_path / "none" / "out", "No such file or directory"),
        (tmp_path, "is not a file"),
        (Path("/dev/null"), "is not a file"),
    ):
        done = invoke("snapshot", str(place), "-c", PAE)
        assert (done.code, done.out) == (3, "")
        assert str(place) in str(done.error)
        assert why in str(done.error)


def test_a_full_disk_leaves_nothing(invoke: Invoke, tmp_path: Path, tmp_path_factory: Any) -> None:
    """No file may become larger than 512 KiB: the kernel's own limit, and a signal that Python ignores."""
    plain = tmp_path_factory.mktemp("plain") / "core"
    assert invoke("snapshot", str(plain), "-c", PAE).code == 0
    command = f"ulimit -f 512; exec {sys.executable} -m kvmtools snapshot {tmp_path}/out -c {plain}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"kvmtools: cannot write {tmp_path}/out: File too large\n"
    assert os.listdir(tmp_path) == []


def test_a_pipe_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m kvmtools snapshot {tmp_path}/out -c {PAE} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert (tmp_path / "out").exists()


def test_a_vmlinux_of_another_kernel_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("snapshot", str(tmp_path / "out"), "-c", PAE, "-s", str(tmp_path / "vmlinux"))
    assert (done.code, done.out) == (3, "")
    assert os.listdir(tmp_path) == []


def test_without_a_library_nothing_is_compressed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    assert invoke("snapshot", str(plain), "-c", PAE).code == 0
    monkeypatch.setattr("kvmtools.attach.memory.zstd._library", lambda: None)
    done = invoke("snapshot", str(tmp_path / "out"), "-c", str(plain), "--zstd")
    assert done.code == 2
    assert "no library for Zstandard" in str(done.error)
    assert os.listdir(tmp_path) == ["plain"]

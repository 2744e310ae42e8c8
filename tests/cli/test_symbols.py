"""What a command says of symbols that it cannot have: one line, exit code 3, nothing left behind."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from linked_kernel import RELEASE, Link, core, halves, linker, objcopy

from kvmtools.observe.symbols.vmlinux_file import read_vmlinux

SLIDE = 0x20_0000


@pytest.fixture
def link(compiled: Callable[..., Path], tmp_path: Path) -> Link:
    return linker(compiled, tmp_path)


@pytest.fixture
def folder(link: Link, tmp_path: Path) -> Path:
    """A core, the vmlinux of its kernel in all its parts, and another kernel's."""
    for name in ("empty", "temporary", "split", "mixed"):
        (tmp_path / name).mkdir()
    whole = link()
    core(whole, tmp_path / "core", slide=SLIDE)
    halves(whole, tmp_path / "split" / "vmlinux", tmp_path / "split" / "vmlinux.debug")
    halves(whole, tmp_path / "mixed" / "vmlinux", tmp_path / "mixed" / "vmlinux.debug")
    (tmp_path / "stripped").write_bytes((tmp_path / "split" / "vmlinux").read_bytes())
    objcopy(link("other"), tmp_path / "mixed" / "vmlinux.debug", "--only-keep-debug")
    (tmp_path / "other").symlink_to(link("other"))
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(whole.read_bytes())[:1000])
    (tmp_path / "vmlinux.lzo").write_bytes(b"\x89LZO\0 and more")
    return tmp_path


def vtop(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kvmtools", "vtop", "-c", "core", *words, "linux_banner"]
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / "temporary"), **env}
    return subprocess.run(command, cwd=folder, env={**os.environ, **own}, capture_output=True, text=True)


REFUSED = {
    "nothing named": ([], f"no DWARF for the guest's kernel {RELEASE} (build id ID) (looked for /usr/lib/debug/"),
    "an empty folder": (["-s", "empty"], f"no DWARF for the guest's kernel {RELEASE} (build id ID) (looked for "),
    "stripped": (["-s", "stripped"], "no DWARF in stripped (build id ID) (looked for "),
    "another kernel's half": (
        ["-s", "mixed/vmlinux"],
        "no DWARF in mixed/vmlinux (build id ID); FOLDER/mixed/vmlinux.debug has build id OTHER (looked for ",
    ),
    "another kernel's half, in a folder": (
        ["-s", "mixed"],
        f"no DWARF for the guest's kernel {RELEASE} (build id ID); nor in FOLDER/mixed/vmlinux; "
        "FOLDER/mixed/vmlinux.debug has build id OTHER (looked for ",
    ),
    "another kernel's": (
        ["-s", "other"],
        "this vmlinux is not the guest's kernel: its build id is OTHER, the guest says 'Linux version ",
    ),
    "damaged": (["-s", "damaged.gz"], "damaged.gz cannot be unpacked as gzip: Compressed file ended before "),
    "missing": (["-s", "missing"], "cannot read vmlinux missing: No such file or directory (give the vmlinux "),
    "lzop missing": (["-s", "vmlinux.lzo"], "vmlinux.lzo is packed with lzo, and the program lzop is not installed"),
    "no kernel": (["-s", "core"], "core is a core, not a kernel (give "),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_says_what_is_missing_and_what_would_help(case: str, folder: Path) -> None:
    words, said = REFUSED[case]
    build_id, other = (read_vmlinux(folder / name).build_id for name in ("stripped", "other"))
    said = said.replace("ID)", f"{build_id})").replace("OTHER", other).replace("FOLDER", str(folder))
    path = {"PATH": str(folder / "empty")} if case == "lzop missing" else {}
    done = vtop(folder, *words, **path)
    assert (done.stdout, done.returncode) == ("", 3)
    assert done.stderr.startswith(f"kvmtools: {said}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(")\n")
    assert not list((folder / "temporary").iterdir())
    assert not (folder / "cache").exists()

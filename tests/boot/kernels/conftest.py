"""``workplace``: a make that obeys in milliseconds, and nothing of the machine's own cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_workplace import Workplace

from kvmtools.paths import data_dir

FAKE_MAKE = Path(__file__).with_name("fake_make.py")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    programs = tmp_path / "bin"
    programs.mkdir()
    make = programs / "make"
    make.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE_MAKE} "$@"\n')
    make.chmod(0o755)
    monkeypatch.setenv("FAKE_MAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    tree = tmp_path / "linux"
    (tree / "arch/x86").mkdir(parents=True)
    (tree / "Kconfig").write_text("mainmenu\n")
    (tree / "arch/x86/Makefile").write_text("# x86\n")
    data = tmp_path / "qemu"
    shutil.copytree(data_dir(), data)
    command = ["gcc", "-m32", "-ffreestanding", "-c", "-x", "c", "-", "-o", str(tmp_path / "prebuilt.ko")]
    subprocess.run(command, input=b"int driver;", check=True)
    for module in ("reference", "build", "ramdisk"):
        monkeypatch.setattr(f"kvmtools.boot.kernels.{module}.data_dir", lambda: data)
    return Workplace(tree, data, [])

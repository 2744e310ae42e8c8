"""The wheel by itself: in an environment of its own, with nothing on the path but that environment's programs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "fixtures" / "guests" / "pae.vmcore.zst"


def succeed(*words: str | Path) -> None:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    succeed(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("kvmtools-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; what the wheel depends on is what we have ourselves."""
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    offline = ("--quiet", "--no-index", "--no-deps", "--disable-pip-version-check")
    succeed(sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel)
    # A folder that is only on the path has its own .pth files left alone: the checkout is not behind it.
    (ours,) = folder.glob("lib/python*/site-packages")
    (ours / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A program of the environment, with no other program to be found, and a home of its own."""
    alone = {"PATH": str(installed / "bin"), "HOME": str(folder), "LANG": "C.UTF-8"}
    command = [str(installed / "bin" / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, timeout=120)


def test_it_is_the_wheel_that_is_asked(installed: Path, tmp_path: Path) -> None:
    code = "import kvmtools; from kvmtools.paths import data_dir; print(kvmtools.__file__, data_dir())"
    done = run(installed, tmp_path, "python", "-c", code)
    package, data = done.stdout.split()
    assert installed in Path(package).parents
    assert installed in Path(data).parents
    assert (Path(data) / "driver" / "Kbuild").is_file()
    assert (Path(data) / "init" / "init.c").is_file()


def test_a_recorded_guest_is_checked_and_reported(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "kvmtools", "check", "-c", str(FIXTURE))
    assert (done.returncode, done.stderr) == (0, "")
    assert "✓ agrees with the model" in done.stdout
    done = run(installed, tmp_path, "kvmtools", "vtop", "-c", str(FIXTURE), "swapper_pg_dir")
    assert (done.returncode, done.stderr) == (0, "")
    page = tmp_path / "report.html"
    done = run(installed, tmp_path, "kvmtools", "report", "-c", str(FIXTURE), "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_model_answers(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "kvmtools", "model", "layout", "--era", "2.4", "--memory", "1G")
    assert (done.returncode, done.stderr) == (0, "")
    assert "f8000000  ┼── high_memory" in done.stdout


def test_what_needs_qemu_says_so(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "kvmtools", "guest", "start", "pae")
    assert done.returncode == 3
    assert "there is no qemu-system-i386 on this machine" in done.stderr


def test_gdb_gets_its_script(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "kvmtools", "gdb-script")
    assert (done.returncode, done.stderr) == (0, "")
    script = Path(done.stdout.strip())
    assert tmp_path in script.parents
    assert script.is_file()


def test_pytest_finds_the_plugin(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "python", "-m", "pytest", "--help")
    assert "--kvm-kernel" in done.stdout


def test_the_man_page_lies_where_man_looks(installed: Path, tmp_path: Path) -> None:
    assert (installed / "share" / "man" / "man1" / "kvmtools.1").read_text().startswith(".TH KVMTOOLS 1")


def test_nothing_else_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    data = wheel.name.removesuffix("-py3-none-any.whl") + ".data/data/"
    tops = {name.partition("/")[0] for name in names if not name.startswith(data)}
    assert tops == {"kvmtools", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    packed = {name.removeprefix(data) for name in names if name.startswith(data)}
    assert {name.split("/")[1] for name in packed} == {"kvmtools", "man"}
    assert not any(os.fspath(ROOT).encode() in zipfile.ZipFile(wheel).read(name) for name in names)

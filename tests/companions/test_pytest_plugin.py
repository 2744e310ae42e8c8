"""The pytest plugin without a guest: what it asks for, what it says where there is none, what it costs the others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from kvmtools.companions.pytest_plugin import Machine, machines

GIVEN = {
    "kvm_kernel": None,
    "kvm_symbols": None,
    "kvm_initrd": None,
    "kvm_memory": None,
    "kvm_smp": 2,
    "kvm_append": "",
}


@pytest.mark.parametrize(
    ("options", "marked", "wanted"),
    [
        ({}, {}, [Machine("pae", "2G", 2)]),
        ({"kvm_kernel": ["nopae"], "kvm_smp": 1}, {}, [Machine("nopae", "2G", 1)]),
        ({"kvm_kernel": ["nopae"]}, {"kernel": "pae", "memory": "6G", "smp": 4}, [Machine("pae", "6G", 4)]),
        ({"kvm_append": "a=1"}, {"append": "b=2"}, [Machine("pae", "2G", 2, "a=1 b=2")]),
        (
            {"kvm_memory": ["1G", "6G"]},
            {"kernel": ["pae", "numa"]},
            [Machine(kernel, memory, 2) for kernel in ("pae", "numa") for memory in ("1G", "6G")],
        ),
        (
            {"kvm_kernel": ["/b"], "kvm_symbols": Path("/v"), "kvm_initrd": Path("/i")},
            {},
            [Machine("/b", "2G", 2, "", Path("/v"), Path("/i"))],
        ),
        ({"kvm_kernel": ["/b"], "kvm_symbols": Path("/v")}, {"kernel": "pae"}, [Machine("pae", "2G", 2)]),
        ({}, {"kernel": "/b", "symbols": "/v"}, [Machine("/b", "2G", 2, "", Path("/v"))]),
    ],
)
def test_the_mark_wins_over_the_command_line(
    options: dict[str, Any], marked: dict[str, Any], wanted: list[Machine]
) -> None:
    assert machines(Namespace(**{**GIVEN, **options}), marked) == wanted


def test_a_machine_is_named_in_a_tests_id() -> None:
    assert str(Machine("/x/bzImage", "6G", 4, "nopti")) == "bzImage-6G-smp4-nopti"
    assert str(Machine("pae", "2G", 1)) == "pae-2G-smp1"


TEST = """
import pytest
@pytest.mark.kvm(MARK)
def test_it(kvm_check):
    kvm_check()
"""


def run_pytest(folder: Path, mark: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(TEST.replace("MARK", mark))
    words = [sys.executable, "-m", "pytest", "-q", "-rs", "--strict-markers", "test_it.py", *options]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(words, cwd=folder, env={**env, **more}, capture_output=True, text=True)


def test_without_qemu_it_is_skipped_and_says_so(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "", PATH=str(tmp_path))
    assert done.returncode == 0
    assert "test_it.py" in done.stdout
    assert "no guest: there is no qemu-system-i386 on this machine" in done.stdout
    assert "1 skipped" in done.stdout


def test_without_a_kernel_it_is_skipped_and_says_so(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "kernel='numa'", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0
    assert "no guest: the kernel 'numa' is not built: kvmtools guest build numa" in done.stdout
    done = run_pytest(tmp_path, "kernel='/nowhere/bzImage'")
    assert done.returncode == 0
    assert "no guest: there is no kernel '/nowhere/bzImage'" in done.stdout


def test_where_a_guest_is_required_nothing_is_skipped(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "", "--kvm-require", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "no guest: there is no qemu-system-i386" in done.stdout
    assert "1 error" in done.stdout


@pytest.mark.parametrize("mark", ["'pae'", "ram='2G'"])
def test_a_mark_that_says_something_else_is_an_error(tmp_path: Path, mark: str) -> None:
    done = run_pytest(tmp_path, mark)
    assert done.returncode == 2
    assert "is none of kvm(kernel, memory, smp, append, symbols, initrd)" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ("--kvm-symbols", "vmlinux"),
        ("--kvm-symbols", "vmlinux", "--kvm-kernel", "pae", "--kvm-kernel", "bzImage"),
        ("--kvm-kernel", "nowhere/bzImage"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, "", *options)
    assert done.returncode == 4
    assert "--kvm-kernel" in done.stderr


def test_it_is_in_every_pytest_and_imports_nothing_there() -> None:
    code = """
import sys, pytest
from _pytest import config
before = set(sys.modules)
import kvmtools.companions.pytest_plugin
new = {name for name in set(sys.modules) - before if name.partition(".")[0] not in sys.stdlib_module_names}
assert new <= {"kvmtools", "kvmtools.companions", "kvmtools.companions.pytest_plugin"}, new
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True
    )
    assert "--kvm-kernel" in listed.stdout


def test_the_readmes_example_is_the_pages_which_runs() -> None:
    root = Path(__file__).resolve().parents[2]
    (shown,) = re.findall(r"^```py\n(.*?)^```$", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    page = (root / "docs" / "pytest.md").read_text()
    assert f"```python\n# test_patch.py\n{shown}```" in page
    assert len([line for line in shown.splitlines() if line]) == 5

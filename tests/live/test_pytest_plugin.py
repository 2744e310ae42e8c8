"""The pytest plugin in a pytest of its own: docs/pytest.md as a person types it; guests stop whatever happens."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from console_blocks import environment, run, typed

from kvmtools.boot.kernels import reference

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pytest.md").read_text(encoding="utf-8")
Start = Callable[..., "subprocess.Popen[str]"]
FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLEEPING = """
import pathlib, pytest, time
@pytest.mark.kvm(memory="64M", smp=1)
def test_that_takes_long(kvm_guest):
    pathlib.Path("begun").write_text(kvm_guest.name)
    time.sleep(120)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the page's tests in it."""
    for name, source in FILE.findall(PAGE):
        (tmp_path / name).write_text(source)
    return tmp_path


@pytest.fixture
def env(folder: Path) -> Mapping[str, str]:
    """A person's, who runs no tests at the moment."""
    kept = {name: value for name, value in environment(folder).items() if not name.startswith("PYTEST")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def guests(folder: Path) -> list[str]:
    place = folder / "kvmtools"
    return sorted(each.name for each in place.iterdir()) if place.exists() else []


def test_what_the_page_shows_is_what_pytest_prints(folder: Path, env: Mapping[str, str]) -> None:
    commands = list(typed(PAGE))
    assert len(commands) == 3
    for each in commands:
        run(each, folder, env)
        assert guests(folder) == []


@pytest.fixture
def start(folder: Path, env: Mapping[str, str]) -> Iterator[Start]:
    """Starts a pytest with the options given, up to the middle of a test that has a guest."""
    (folder / "test_sleeping.py").write_text(SLEEPING)
    with ExitStack() as stack:

        def begin(*options: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "pytest", "-q", *options, "test_sleeping.py"]
            said = subprocess.PIPE
            process = stack.enter_context(
                subprocess.Popen(
                    command, cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT, text=True
                )
            )
            stack.callback(process.kill)
            deadline = time.monotonic() + 60
            while not (folder / "begun").exists():
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            return process

        yield begin


def all_are_gone(folder: Path, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while guests(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return guests(folder) == []


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, pytest.ExitCode.INTERRUPTED, "KeyboardInterrupt"),
        (signal.SIGTERM, 128 + signal.SIGTERM, "ended by SIGTERM"),
    ],
)
def test_guests_are_stopped_before_pytest_ends(
    start: Start, folder: Path, number: signal.Signals, code: int, words: str
) -> None:
    process = start()
    assert guests(folder) == [f"pytest-{process.pid}-0"]
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert words in said
    assert guests(folder) == []


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_guests_of_a_pytest_that_was_killed_are_stopped(
    start: Start, folder: Path, options: tuple[str, ...]
) -> None:
    process = start(*options)
    (name,) = guests(folder)
    assert name.startswith("pytestgw0-" if options else "pytest-")
    process.kill()
    process.communicate(timeout=60)
    assert all_are_gone(folder)


BY_ITS_PATH = """
def test_it_has_booted(kvm_guest, kvm_kernel, kvm_check):
    assert kvm_kernel.state == ""
    assert kvm_guest.inside.version()["driver"] == "ready"
    kvm_check()
"""


def test_a_kernel_by_its_path_has_booted_when_a_test_begins(folder: Path, env: Mapping[str, str]) -> None:
    """Nobody knows that it has an init that would say so."""
    built = reference.find("nopae")
    assert built is not None
    (folder / "test_path.py").write_text(BY_ITS_PATH)
    (folder / "linux").symlink_to(built.bzimage.parent)
    command = [sys.executable, "-m", "pytest", "-q", "test_path.py", "--kvm-memory", "256M"]
    command += ["--kvm-kernel", "linux/", "--kvm-initrd", str(built.initrd)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (folder / "no-init").write_bytes(b"")
    done = subprocess.run(
        [*command[:-1], "no-init"], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "it has panicked: " in done.stdout
    assert guests(folder) == []


def test_a_kernel_that_does_not_boot_fails(folder: Path, env: Mapping[str, str]) -> None:
    """Its parameter names no fault: the driver does not load."""
    command = [sys.executable, "-m", "pytest", "-q", "test_layout.py", "--kvm-memory", "64M"]
    command += ["--kvm-append", "kvmtools.fault=nonsense"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "did not start: its driver says error 22 to kvmtools.fault=nonsense" in done.stdout
    assert "Traceback" not in done.stdout
    assert guests(folder) == []

"""Two real guests, booted once for all live tests and stopped whatever happens; and machines without a kernel."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bare_qemu import RAM, Machine, Start, shared

import kvmtools
from kvmtools.boot.guests import lifecycle

MEMORY = {"pae": "6G", "nopae": "2G"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


def _boot(kernel: str) -> Iterator[lifecycle.Guest]:
    name = f"test-{kernel}-{os.getpid()}"
    with kvmtools.booted(name, kernel=kernel, memory=MEMORY[kernel]) as guest:
        yield guest


@pytest.fixture(scope="session")
def pae_guest() -> Iterator[lifecycle.Guest]:
    """A PAE guest with RAM above 4 GiB."""
    yield from _boot("pae")


@pytest.fixture(scope="session")
def nopae_guest() -> Iterator[lifecycle.Guest]:
    """A guest without PAE, all its RAM below 4 GiB."""
    yield from _boot("nopae")


@pytest.fixture(scope="session", params=["pae", "nopae"])
def guest(request: pytest.FixtureRequest) -> lifecycle.Guest:
    """Each of the two guests in turn."""
    found: lifecycle.Guest = request.getfixturevalue(f"{request.param}_guest")
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts QEMU with the arguments given; every one of them ends with the test."""
    with ExitStack() as stack:
        stack.callback(RAM.unlink, missing_ok=True)

        def begin(*arguments: str, program: str = "qemu-system-i386", folder: Path = tmp_path) -> Machine:
            sockets = folder / "qmp", folder / "gdb"
            command = [program, "-accel", "tcg", "-nodefaults", "-display", "none", *arguments]
            for option, path in zip(("-qmp", "-gdb"), sockets, strict=True):
                command += [option, f"unix:{path},server=on,wait=off"]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
            while not all(path.exists() for path in sockets):
                assert process.poll() is None
                time.sleep(0.01)
            qmp, gdb = map(str, sockets)
            return Machine(process, qmp, gdb, RAM)

        yield begin


@pytest.fixture
def split(start: Start) -> Machine:
    """64 MiB on each side of 4 GiB, in a shared file; the firmware's loop runs."""
    machine = "pc,max-ram-below-4g=64M,memory-backend=ram"
    return start("-cpu", "max", "-machine", machine, *shared(128, RAM))

"""What several rooms' tests take: small programs of a compiler, and page tables from files.

What takes ``paging_vector`` or ``any_vector`` runs once for each (fixtures/paging).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from kvmtools.model.paging.vectors import Vector, parse

VECTORS = Path(__file__).resolve().parent.parent / "fixtures" / "paging"
LONG_MODE = "4-level"

# Nothing is asked of servers of this machine's.
os.environ.pop("DEBUGINFOD_URLS", None)

# A shell that starts us in the background has us ignore Ctrl-C and Ctrl-\, and so would every program that a test
# interrupts.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

# A busy machine is no bug, and a test that passed passes again; `pytest --hypothesis-profile explore` looks for news.
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("kvmtools", deadline=None, derandomize=True)
settings.load_profile("kvmtools")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name in {"paging_vector", "any_vector"} & set(metafunc.fixturenames):
        paths = [path for path in sorted(VECTORS.glob("*.txt")) if wanted(name, path)]
        assert paths, f"no vectors in {VECTORS}"
        metafunc.parametrize(name, paths, ids=lambda path: path.stem, indirect=True)


def wanted(fixture: str, path: Path) -> bool:
    return fixture == "any_vector" or not path.stem.startswith(LONG_MODE)


@pytest.fixture
def paging_vector(request: pytest.FixtureRequest) -> Vector:
    """A vector of a form that i386 has: the observer knows no other."""
    return parse(request.param.stem, request.param.read_text())


@pytest.fixture
def any_vector(request: pytest.FixtureRequest) -> Vector:
    """A vector of any form; its memory is the test's own."""
    return parse(request.param.stem, request.param.read_text())


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``compiled(source, *flags)``: an executable without libraries, by default for i386 and with DWARF."""
    built: dict[tuple[str, ...], Path] = {}

    def build(source: str, *flags: str) -> Path:
        key = (source, *flags)
        if key not in built:
            folder = tmp_path_factory.mktemp("compiled")
            (folder / "kernel.c").write_text(source)
            options = flags or ("-m32", "-g", "-Wl,--build-id")
            command = [
                "gcc",
                *options,
                "-nostdlib",
                "-static",
                "-fno-pie",
                "-no-pie",
                "-o",
                "vmlinux",
                "kernel.c",
            ]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            built[key] = folder / "vmlinux"
        return built[key]

    return build

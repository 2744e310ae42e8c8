"""One run of chosen tests in a fork of this process, against the model as it is or with one mistake in it.

The parent has pytest, Hypothesis and all else that is heavy in its memory, but never the model: each child imports
that anew, so that a mistake in a table or a default takes effect like any other.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[2]

IMPORT_SECONDS = 20.0
"""CPU time for imports and collection; a test gets what :func:`seconds_for` says."""
MEMORY = 4 << 30
"""Address space of a child: a loop that never ends may also never stop to allocate."""

OPTIONS = ("-q", "-x", "--import-mode=importlib", "-p", "no:cacheprovider", "--hypothesis-profile=mutants")

PLUGINS = [import_module(name) for name in ("_hypothesis_pytestplugin", "pytest_timeout")]
"""What pytest would find by itself, and much that is of no use here."""

hypothesis.settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    # A failure is all that is asked for; the smallest one is not.
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=list(hypothesis.HealthCheck),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    passed: bool
    test: str = ""
    """The test that ran last: the one that failed, if one did; empty if the model could not even be imported."""
    timeout: bool = False


@dataclass(frozen=True, slots=True)
class Replacement:
    """A module to be imported from other text than its file's."""

    module: str
    path: Path
    source: bytes

    def install(self) -> None:
        sys.meta_path.insert(0, _Finder(self))


class _Loader(SourceFileLoader):
    def __init__(self, replacement: Replacement) -> None:
        super().__init__(replacement.module, str(replacement.path))
        self._source = replacement.source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder:
    def __init__(self, replacement: Replacement) -> None:
        self._replacement = replacement

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name != self._replacement.module:
            return None
        return spec_from_file_location(name, self._replacement.path, loader=_Loader(self._replacement))


class Chosen:
    """Runs the tests that were chosen, in that order, and says which one it runs."""

    def __init__(
        self, tests: Sequence[str], seconds: Callable[[str], float], say: Callable[[str], None]
    ) -> None:
        self._order = {test: number for number, test in enumerate(tests)}
        self._seconds = seconds
        self._say = say

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._order), key=lambda item: self._order[item.nodeid]
        )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._say(nodeid)
        signal.setitimer(signal.ITIMER_PROF, self._seconds(nodeid))


def warm(modules: Sequence[str]) -> None:
    """Import once, here, what the tests import, so that no child needs to; never the model."""
    for name in modules:
        try:
            __import__(name)
        except ImportError:
            continue


def pytest_main(files: Sequence[str], plugins: Sequence[object], options: Sequence[str] = OPTIONS) -> int:
    """pytest with the repository's own configuration, apart from its command line."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return int(pytest.main(["-o", "addopts=", *options, *files], [*PLUGINS, *plugins]))


def run(
    tests: Sequence[str], seconds: Callable[[str], float], replacement: Replacement | None = None
) -> Outcome:
    """Run ``tests`` (node ids) until one fails.

    :param seconds: the CPU time that a test may take before it counts as endless
    """
    if not tests:
        return Outcome(passed=True)
    # Waiting for what never comes takes no CPU time; the clock on the wall is for that, and generous.
    limit = 60 + 3 * sum(seconds(test) for test in tests)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(writing, tests, seconds, replacement)
    os.close(writing)
    said, late = _listen(reading, time.monotonic() + limit)
    if late:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    last = said.decode().strip().rpartition("\n")[2]
    if os.WIFSIGNALED(status):
        return Outcome(passed=False, test=last, timeout=late or os.WTERMSIG(status) == signal.SIGPROF)
    passed = os.WEXITSTATUS(status) in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return Outcome(passed, last)


def _listen(reading: int, end: float) -> tuple[bytes, bool]:
    """What the child says until it ends, and whether it took too long."""
    said = b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return said, True
            more = pipe.read(1 << 16)
            if not more:
                return said, False
            said += more


def _in_child(
    writing: int, tests: Sequence[str], seconds: Callable[[str], float], replacement: Replacement | None
) -> None:
    status = 1
    try:
        silence()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.setitimer(signal.ITIMER_PROF, IMPORT_SECONDS)
        if replacement is not None:
            replacement.install()
        chosen = Chosen(tests, seconds, lambda test: void(os.write(writing, f"{test}\n".encode())))
        status = pytest_main(list(dict.fromkeys(test.partition("::")[0] for test in tests)), [chosen])
    finally:
        os._exit(status)


def die_with_parent() -> None:
    """A mutant may run for ever: no child shall outlive the one who would end it (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def silence() -> None:
    """A child is a group of its own, with nothing to read and nobody to tell."""
    die_with_parent()
    os.setpgid(0, 0)
    os.chdir(ROOT)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def void(_: Any) -> None:
    """For callbacks whose result nobody wants."""

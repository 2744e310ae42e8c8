"""Which tests touch which lines of the model, and how long they take: asked once per version of a test file."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from multiprocessing.pool import Pool
from pathlib import Path

import coverage
import pytest

from mutants import trial
from mutants.trial import ROOT

MODEL = ROOT / "kvmtools" / "model"
TESTS = ROOT / "tests" / "model"
CACHE = ROOT / ".mutants"

SLOW_SECONDS = 2.0
SLOW_FILES = ("_machine.py", "_exhaustive.py")


@dataclass(slots=True)
class TestFile:
    """What one run of one test file showed; ``touches[file][line]`` are indices of ``tests``."""

    key: str = ""
    """Digest of the file and of what tests share."""
    model: dict[str, str] = field(default_factory=dict)
    """Digests of the model's files, as they were then."""
    tests: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    touches: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    """What was imported, apart from what a mutant may change."""


class Baseline:
    """All test files together."""

    def __init__(self, files: Iterable[TestFile]) -> None:
        self.seconds: dict[str, float] = {}
        self.failing: list[str] = []
        self._touching: dict[tuple[str, int], set[str]] = {}
        self._in_file: dict[str, set[str]] = {}
        for found in files:
            self.failing += found.failing
            sound = set(found.tests) - set(found.failing)
            self.seconds |= {t: s for t, s in zip(found.tests, found.seconds, strict=True) if t in sound}
            for name, lines in found.touches.items():
                for line, indices in lines.items():
                    tests = {found.tests[index] for index in indices} & sound
                    self._touching.setdefault((name, int(line)), set()).update(tests)
                    self._in_file.setdefault(name, set()).update(tests)

    def touching(self, file: str, lines: Iterable[int]) -> set[str]:
        """The tests that run any of these lines."""
        return set().union(*(self._touching.get((file, line), ()) for line in lines))

    def in_file(self, file: str) -> set[str]:
        """The tests that run anything of this file's functions."""
        return self._in_file.get(file, set())

    def slow(self, test: str) -> bool:
        return self.seconds[test] > SLOW_SECONDS or test.partition("::")[0].endswith(SLOW_FILES)

    def limit(self, test: str) -> float:
        """CPU seconds after which a test counts as endless."""
        return 3 + 10 * self.seconds.get(test, 1.0)


def digest(paths: Iterable[Path]) -> str:
    whole = sha256()
    for path in sorted(paths):
        whole.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:20]


def common_files() -> list[Path]:
    """What every test and every part of the model may depend on."""
    shared = [ROOT / "pyproject.toml", ROOT / "kvmtools" / "records.py", ROOT / "kvmtools" / "errors.py"]
    helpers = [path for path in TESTS.rglob("*.py") if not path.name.startswith("test_")]
    return [*shared, *helpers, *(ROOT / "tests").glob("*.py"), *(ROOT / "fixtures" / "paging").glob("*")]


def model_files() -> list[Path]:
    """The room, without its door: ``__main__.py`` only leads to the command line."""
    return sorted(path for path in MODEL.rglob("*.py") if path.name != "__main__.py")


def ask(pool: Pool, chosen: Iterable[str], words: Sequence[str] = ()) -> list[TestFile]:
    """Run every test file that is new, or that was last run with other text of the ``chosen`` files.

    :param words: only test files with one of them in their name; all if there is none
    """
    store = CACHE / "baseline.json"
    known: dict[str, TestFile] = {}
    # A file of an older version of this tool is as good as none.
    with contextlib.suppress(FileNotFoundError, TypeError):
        known = {name: TestFile(**found) for name, found in json.loads(store.read_text()).items()}
    model = {str(path.relative_to(MODEL)): digest([path]) for path in model_files()}
    common = common_files()
    wanted = {
        str(path.relative_to(ROOT)): digest([path, *common])
        for path in sorted(TESTS.rglob("test_*.py"))
        if not words or any(word in path.stem for word in words)
    }

    def current(name: str) -> bool:
        found = known.get(name)
        return (
            found is not None
            and found.key == wanted[name]
            and all(found.model.get(file) == model[file] for file in chosen)
        )

    unknown = [(name, wanted[name], model) for name in wanted if not current(name)]
    if unknown:
        print(f"asking {len(unknown)} of {len(wanted)} test files which lines they touch", file=sys.stderr)
    for name, found in pool.imap_unordered(_observe, unknown):
        known[name] = found
        keep(store, json.dumps({name: asdict(found) for name, found in known.items()}))
    return [known[name] for name in wanted]


def keep(path: Path, text: str) -> None:
    """Write a file of the cache; whoever reads it meanwhile sees the old text or the new."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def _observe(wanted: tuple[str, str, dict[str, str]]) -> tuple[str, TestFile]:
    """Run one test file under coverage, in a fork."""
    trial.die_with_parent()
    file, key, model = wanted
    with tempfile.NamedTemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                trial.silence()
                Path(answer.name).write_text(json.dumps(asdict(_observed(file))))
                status = 0
            finally:
                os._exit(status)
        os.waitpid(child, 0)
        text = Path(answer.name).read_text()
    found = TestFile(**json.loads(text)) if text else TestFile(failing=[file])
    return file, replace(found, key=key, model=model)


class _Observer:
    def __init__(self, measure: coverage.Coverage) -> None:
        self._measure = measure
        self._started = 0.0
        self.seconds: dict[str, float] = {}
        self.failing: dict[str, None] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._measure.switch_context(nodeid)
        self._started = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] = time.process_time() - self._started

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failing[report.nodeid] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failing[report.nodeid] = None


def _observed(file: str) -> TestFile:
    measure = coverage.Coverage(data_file=None, config_file=False, include=[f"{MODEL}/*"], branch=False)
    observer = _Observer(measure)
    measure.start()
    trial.pytest_main([file], [observer], [option for option in trial.OPTIONS if option != "-x"])
    measure.stop()
    data = measure.get_data()
    tests = list(observer.seconds)
    index = {test: number for number, test in enumerate(tests)}
    touches: dict[str, dict[str, list[int]]] = {}
    for path in data.measured_files():
        lines = data.contexts_by_lineno(path)
        touches[str(Path(path).relative_to(MODEL))] = {
            str(line): [index[context] for context in contexts if context in index]
            for line, contexts in lines.items()
            if any(contexts)
        }
    seconds = [round(observer.seconds[test], 4) for test in tests]
    failing, modules = list(observer.failing), _harmless(sys.modules)
    return TestFile("", {}, tests, seconds, failing, touches, modules)


def _harmless(names: Iterable[str]) -> list[str]:
    """Modules whose import here spares each child some time and hides no mutant."""
    ours = ("kvmtools", "tests", "test_", "conftest", "mutants", "__")
    return [name for name in names if not name.startswith(ours) and _is_installed(name)]


def _is_installed(name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    return isinstance(file, str) and not Path(file).is_relative_to(ROOT / "tests")


def heavy_modules(files: Sequence[TestFile]) -> list[str]:
    return sorted({name for found in files for name in found.modules})


def everything() -> str:
    """Digest of all that a test of the model may depend on."""
    return digest([*common_files(), *model_files(), *TESTS.rglob("test_*.py")])

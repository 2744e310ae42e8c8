"""Where kernels are built in tests: a cache, a tree and our data, all of the test's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.kernels import reference
from kvmtools.paths import cache_dir


@dataclass
class Workplace:
    """A cache of its own, a tree, a copy of our data that may be changed, and what progress was told."""

    tree: Path
    data: Path
    progress: list[str]

    def ensure(self, name: str = "pae", source: Path | None = None) -> reference.BuiltKernel:
        return reference.ensure(name, source or self.tree, progress=self.progress.append)

    def calls(self) -> list[str]:
        calls = self.tree.parent / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


def rubbish() -> list[str]:
    """What lies in the cache beside entries and locks."""
    folder = cache_dir() / "kernels"
    return [path.name for path in folder.iterdir() if path.name.startswith(".") and path.suffix != ".lock"]


def wait_until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)

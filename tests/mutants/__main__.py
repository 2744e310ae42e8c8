"""``make mutants``: try every mutant, print what survived, fail if the tests hold too little.

usage: python -m mutants [PART ...]      only files whose name contains one of the parts

The environment may say more: JOBS, how many to try at once (as many as there are CPUs); TESTS, words of which one must
be in the name of a test file: quick while one writes tests for a file, but what then survives may be killed elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context

from mutants import baseline, survivors, trial, verdicts
from mutants.baseline import CACHE, MODEL, Baseline
from mutants.operators import Mutant, mutants_of
from mutants.verdicts import Court, Verdict

ENOUGH = 0.95
"""The share of mutants that must be killed."""


def main(parts: Sequence[str]) -> int:
    words = os.environ.get("TESTS", "").split()
    jobs = int(os.environ.get("JOBS") or os.cpu_count() or 1)
    chosen = [
        path
        for path in baseline.model_files()
        if not parts or any(part.removesuffix(".py") in path.stem for part in parts)
    ]
    sources = {str(path.relative_to(MODEL)): path.read_bytes() for path in chosen}
    mutants = [mutant for file, source in sources.items() for mutant in mutants_of(file, source)]
    if not mutants:
        print(f"no file of kvmtools/model has {' or '.join(parts)} in its name", file=sys.stderr)
        return 2
    with get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        files = baseline.ask(pool, sources, words)
    base = Baseline(files)
    for test in base.failing:
        print(f"fails without any mutant, and is not used: {test}")
    trial.warm(baseline.heavy_modules(files))
    court = Court(base, "" if words else baseline.everything(), verdicts.recall(), sources)
    found = verdicts.judge_all(court, mutants, jobs, _Progress(len(mutants)))
    status = report(found, list(sources))
    return status or bool(base.failing)


class _Progress:
    """One line on a terminal, one every half minute in a log."""

    def __init__(self, mutants: int) -> None:
        self._mutants = mutants
        self._last = 0.0

    def __call__(self, left: int, survived: int) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self._last < (0.2 if terminal else 30) and left:
            return
        self._last = now
        line = f"{self._mutants} mutants, {left} to try, {survived} of those tried survived"
        print(f"\r\x1b[K{line}" if terminal and left else f"\r\x1b[K{line}\n" if terminal else f"{line}\n",
              end="", file=sys.stderr, flush=True)  # fmt: skip


def report(found: dict[Mutant, Verdict], files: Sequence[str]) -> int:
    """Print the table and the survivors; 0 if the tests hold enough."""
    alive = sorted((m for m, v in found.items() if not v.killed), key=lambda m: (m.file, m.line, m.start))
    try:
        listed = survivors.read(survivors.LIST.read_text())
    except survivors.BadList as error:
        print(error, file=sys.stderr)
        return 2
    dead = [mutant for mutant, verdict in found.items() if verdict.killed]
    unlisted, wrong = survivors.complaints(listed, alive, dead, files)
    for mutant in unlisted:
        print(f"{survivors.written(mutant)}\n    # line {mutant.line}; {_tests(found[mutant])}\n")
    print(f"{'file':28}{'mutants':>8}{'killed':>8}{'endless':>8}{'survived':>9}{'unlisted':>9}{'share':>8}")
    for name in files:
        _row(name, {m: v for m, v in found.items() if m.file == name}, unlisted)
    _row("together", found, unlisted)
    for complaint in wrong:
        print(complaint)
    share = len(dead) / len(found)
    if share < ENOUGH:
        print(f"only {share:.1%} of the mutants are killed; {ENOUGH:.0%} are asked for")
    if unlisted:
        print(f"{len(unlisted)} survivors above: write a test that kills each, or list it in"
              " tests/mutants/survivors.txt with the reason why none can")  # fmt: skip
    baseline.keep(CACHE / "unlisted.txt", "".join(f"{survivors.written(mutant)}\n\n" for mutant in unlisted))
    return 1 if share < ENOUGH or unlisted or wrong else 0


def _row(name: str, found: dict[Mutant, Verdict], unlisted: Sequence[Mutant]) -> None:
    if not found:
        return
    killed = sum(verdict.killed for verdict in found.values())
    endless = sum(verdict.timeout for verdict in found.values())
    new = sum(mutant in found for mutant in unlisted)
    print(
        f"{name:28}{len(found):8}{killed:8}{endless:8}{len(found) - killed:9}{new:9}{killed / len(found):8.1%}"
    )


def _tests(verdict: Verdict) -> str:
    return f"{verdict.tests} tests ran and none noticed" if verdict.tests else "no test runs this line"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

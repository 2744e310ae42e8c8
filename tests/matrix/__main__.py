"""``make matrix``: for each kernel that we claim, the two builds and all live tests, the 13 machines among them.

usage: python -m matrix [VERSION ...]        all of them, if none is named

What a kernel's build and tests say goes to .matrix/VERSION.log.  Exit code 0 if every kernel agrees, 1 if one does not,
2 for a version that we do not claim.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from matrix.sources import SUITES, NoSource, obtain
from matrix.verdicts import Verdict, table

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".matrix"
COMMANDS = (
    ("building", ("-m", "kvmtools", "guest", "build")),
    ("testing", ("-m", "pytest", "tests/live", "-p", "no:cacheprovider")),
)


def main(versions: Sequence[str]) -> int:
    if unknown := [version for version in versions if version not in SUITES]:
        print(f"we do not claim {', '.join(unknown)}: there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    LOGS.mkdir(exist_ok=True)
    verdicts = []
    for version in versions or SUITES:
        verdicts.append(judge(version))
        for failure in verdicts[-1].failures:
            progress(f"{version}: failed: {failure}")
    print(table(verdicts))
    print(f"the logs are in {LOGS}")
    return int(not all(verdict.agrees for verdict in verdicts))


def judge(version: str) -> Verdict:
    verdict = Verdict(version)
    started = time.monotonic()
    junit = LOGS / f"{version}.xml"
    junit.unlink(missing_ok=True)
    with open(LOGS / f"{version}.log", "w") as log:
        try:
            source = obtain(version, progress)
        except NoSource as error:
            verdict.trouble = str(error)
        else:
            verdict.trouble = run(version, source, junit, log)
    if junit.exists():
        verdict.count(junit)
    verdict.seconds = time.monotonic() - started
    return verdict


def run(version: str, source: Path, junit: Path, log: IO[str]) -> str:
    """Build and test; returns why that did not come to its end, or nothing: tests that fail are in ``junit``."""
    environment = {**os.environ, "KVMTOOLS_SOURCE": str(source)}
    for doing, words in COMMANDS:
        progress(f"{version}: {doing}")
        more = (f"--junitxml={junit}",) if doing == "testing" else ()
        command = [sys.executable, *words, *more]
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log).returncode
        if code not in ((0, 1) if doing == "testing" else (0,)):
            return f"{doing} ended with exit code {code}: see {log.name}"
    return ""


def progress(line: str) -> None:
    print(f"matrix: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``make matrix``: for each kernel that we claim, the two builds, a check on every machine, and all live tests.

usage: python -m matrix [--machines NAMES] [VERSION ...]        all of them, if none is named

NAMES are some of tests/live/test_machines.py, with commas between them: then nothing else is run.  Each machine's
verdict is said when it is known.  What a kernel's build and tests say goes to .matrix/VERSION.log.  Kernels are built
once; a run that was interrupted begins with the tests again.  Exit code 0 if every kernel agrees on every machine, 1 if
one does not, or if something was left out, 2 for a version that we do not claim.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from matrix import told
from matrix.sources import SUITES, NoSource, obtain
from matrix.verdicts import Place, Verdict, table

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".matrix"
BUILDING = ("-m", "kvmtools", "guest", "build")
TESTING = ("-m", "pytest", "-p", "matrix.told", "-p", "no:cacheprovider")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("matrix")
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=", ".join(SUITES))
    parser.add_argument("--machines", default="", metavar="NAMES", help="as '64M,2G mem=700M'")
    asked = parser.parse_args(words)
    if unknown := [version for version in asked.versions if version not in SUITES]:
        print(f"we do not claim {', '.join(unknown)}: there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    LOGS.mkdir(exist_ok=True)
    verdicts: list[Verdict] = []
    try:
        for version in asked.versions or SUITES:
            verdicts.append(Verdict(version, chosen=bool(asked.machines)))
            judge(verdicts[-1], asked.machines)
    except KeyboardInterrupt:
        verdicts[-1].trouble = "interrupted"
    print(table(verdicts))
    print(f"the logs are in {LOGS}")
    return int(not all(verdict.agrees for verdict in verdicts))


def judge(verdict: Verdict, machines: str) -> None:
    """Build and test a version; what is learned goes to ``verdict``, and a line for each machine to the terminal."""
    started = time.monotonic()
    try:
        source = obtain(verdict.version, progress)
        with open(LOGS / f"{verdict.version}.log", "w") as log:
            verdict.trouble = run(verdict, source, machines, log)
    except NoSource as error:
        verdict.trouble = str(error)
    finally:
        verdict.seconds = time.monotonic() - started
    if verdict.trouble:
        progress(f"{verdict.version}: {verdict.trouble}")
    for place in verdict.places:
        if verdict.says(place)[0] == "not run":
            say(verdict, place)


def run(verdict: Verdict, source: Path, machines: str, log: IO[str]) -> str:
    """Build and test; returns why that did not come to its end, or nothing."""
    version, answers = verdict.version, LOGS / f"{verdict.version}.jsonl"
    answers.write_text("")
    environment = {
        "KVMTOOLS_HEALTHY_RUNS": "50",
        **os.environ,
        "KVMTOOLS_SOURCE": str(source),
        "PYTHONPATH": str(ROOT / "tests"),
        told.VARIABLE: str(answers),
        told.MACHINES: machines,
    }
    where = "tests/live/test_machines.py" if machines else "tests/live"
    for doing, words, fine in (("building", BUILDING, (0,)), ("testing", (*TESTING, where), (0, 1))):
        progress(f"{version}: {doing}")
        process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        with process, answers.open() as lines:
            for line in followed(lines, process):
                if place := verdict.tell(line):
                    say(verdict, place)
        if process.returncode not in fine:
            return f"{doing} ended with exit code {process.returncode}: see {log.name}"
    return ""


def followed(lines: IO[str], process: subprocess.Popen[Any]) -> Iterator[dict[str, Any]]:
    """Each line of a file that grows, until the process that writes it has ended."""
    line = ""
    while True:
        ended = process.poll() is not None
        while piece := lines.readline():
            line += piece
            if line.endswith("\n"):
                yield json.loads(line)
                line = ""
        if ended:
            return
        time.sleep(0.2)


def say(verdict: Verdict, place: Place) -> None:
    said, why = verdict.says(place)
    progress(f"{verdict.version} {place.row} {place.machine}: {said}{why and f' ({why})'}")


def progress(line: str) -> None:
    print(f"matrix: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

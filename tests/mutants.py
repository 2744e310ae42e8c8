"""``make mutants``: is every function of ``kvmtools/model`` held by a test?  mutmut decides; here its verdict is shown.

A *mutant* is the model with one small mistake in it.  A test that fails kills it; each that survives is printed as the
change that no test noticed.  mutmut remembers its verdicts in ``mutants/``: a second run judges only what changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path("mutants")
LOG = FOLDER / "mutmut.log"
SHARE = 0.95
"""Of all mutants, how many must be killed."""
KILLED = ("killed", "timeout", "segfault", "suspicious")


def mutmut(*words: str) -> str:
    """What ``mutmut words`` prints."""
    return subprocess.run(
        [sys.executable, "-m", "mutmut", *words], check=True, capture_output=True, text=True
    ).stdout


def judge(parts: list[str]) -> None:
    """Run every mutant, or those of modules with one of ``parts`` in their name."""
    FOLDER.mkdir(exist_ok=True)
    wanted = [f"kvmtools.model.*{part}*" for part in parts]
    print(f"mutants: some 40 minutes on two idle cores the first time; its progress is in {LOG}", flush=True)
    with LOG.open("w") as log:
        run = subprocess.run(
            [sys.executable, "-m", "mutmut", "run", *wanted], stdout=log, stderr=log, check=False
        )
    if run.returncode:
        sys.exit(f"mutants: mutmut ended with {run.returncode}: see {LOG}")


def survivors() -> list[str]:
    """Names of the mutants that no test noticed, or that no test runs at all."""
    lines = (line.split(": ") for line in mutmut("results").splitlines() if ": " in line)
    return [name.strip() for name, verdict in lines if verdict in ("survived", "no tests")]


def main(parts: list[str]) -> int:
    judge(parts)
    for name in survivors():
        print(f"\n{name}")
        print(
            "\n".join(line for line in mutmut("show", name).splitlines() if line.startswith(("-  ", "+  ")))
        )
    mutmut("export-cicd-stats")
    counts = json.loads((FOLDER / "mutmut-cicd-stats.json").read_text())
    killed = sum(counts[verdict] for verdict in KILLED)
    judged = killed + counts["survived"] + counts["no_tests"]
    print(f"\nmutants: {judged:,} judged, {killed:,} killed ({killed / max(judged, 1):.1%})")
    return 0 if judged and killed >= SHARE * judged else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The lines of docs/guests.md, which tests run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guests.md"
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def lines(section: str) -> list[str]:
    """The commands behind a ``$`` in a section of the page, in order; one that ends with ``\\`` goes on."""
    body = dict(_SECTION.findall(PAGE.read_text(encoding="utf-8")))[section]
    shown = "".join(_CONSOLE.findall(body)).replace("\\\n", "")
    return [re.sub(" +", " ", line[2:]) for line in shown.splitlines() if line.startswith("$ ")]


def run(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line in ``folder``, with our commands on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def agrees(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a check found nothing wrong and had nothing to complain of; else what it said is shown."""
    assert (done.returncode, done.stderr) == (0, ""), (done.args, done.stdout[-3000:], done.stderr)
    return "\n✓ agrees with the model" in done.stdout

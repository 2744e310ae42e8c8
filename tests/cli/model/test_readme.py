"""What the README shows of the model's commands is what they print, to the letter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"


def shown() -> Iterator[tuple[str, list[str]]]:
    """Every command of the README that asks ``kvmtools model``, with the lines below it, to the next one or the end."""
    command, lines = "", []
    for line in README.read_text(encoding="utf-8").splitlines():
        if line.startswith(("$ ", "```")):
            if "kvmtools model " in command:
                yield command, lines
            command, lines = line.removeprefix("$ "), []
        else:
            lines.append(line)


EXAMPLES = dict(shown())


def test_there_are_examples() -> None:
    asked = {command.partition("kvmtools model ")[2].split()[0] for command in EXAMPLES}
    assert asked >= {"layout", "walk", "pkmap", "memmap", "budget"}
    assert all(any(line != "..." for line in lines) for lines in EXAMPLES.values())


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_readme_shows_what_is_printed(command: str) -> None:
    """``...`` stands for lines left out."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("FORCE_COLOR", None)
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    printed = iter(done.stdout.rstrip("\n").split("\n"))
    skipping = False
    for line in EXAMPLES[command]:
        if line == "...":
            skipping = True
        elif skipping:
            assert line in printed, f"{command} does not print, after what was left out: {line}"
            skipping = False
        else:
            assert next(printed, None) == line
    assert skipping or next(printed, None) is None

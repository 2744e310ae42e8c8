"""What the README shows of the model's commands is what they print, to the letter."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"


def shown() -> Iterator[tuple[str, list[str]]]:
    """Every ``$ kvmtools model`` command of the README with the lines below it, to the next command or the end."""
    command, lines = "", []
    for line in README.read_text(encoding="utf-8").splitlines():
        if line.startswith(("$ ", "```")):
            if command.startswith("kvmtools model "):
                yield command, lines
            command, lines = line.removeprefix("$ "), []
        else:
            lines.append(line)


EXAMPLES = dict(shown())


def test_there_are_examples() -> None:
    assert {command.split()[2] for command in EXAMPLES} >= {"layout", "budget", "memmap", "walk"}
    assert all(any(line != "..." for line in lines) for lines in EXAMPLES.values())


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_readme_shows_what_is_printed(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """``...`` stands for lines left out."""
    monkeypatch.chdir(ROOT)
    printed = iter(invoke(*shlex.split(command)[1:]).out.rstrip("\n").split("\n"))
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

"""The README's session with a guest prints what it shows; what it shows of the model is tested without one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from console_blocks import Typed, environment, run, typed

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def session() -> list[Typed]:
    """The README's commands, in order, without those that need no guest."""
    return [each for each in typed(README) if "kvmtools model " not in each.command]


def scripts() -> list[str]:
    """The README's Python."""
    return re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(600)
def test_the_session_of_the_readme_prints_what_it_shows(tmp_path: Path) -> None:
    commands = session()
    assert commands[0].command.startswith("kvmtools guest start")
    assert commands[-1].command.startswith("kvmtools guest stop")
    env = environment(tmp_path)  # with a run directory of its own: the person may have a guest of that name
    try:
        for each in commands[:-1]:
            run(each, tmp_path, env)
        assert any("kvmtools.open(" in script for script in scripts())
        for script in scripts():
            words = [sys.executable, "-c", script]
            done = subprocess.run(words, env=env, capture_output=True, text=True)
            assert done.returncode == 0, (script, done.stderr)
            assert done.stdout.strip(), script
    finally:
        run(commands[-1], tmp_path, env)

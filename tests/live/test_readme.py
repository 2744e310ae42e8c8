"""The README's session with a guest runs as it is written there; what it shows of the model is tested without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def session() -> list[str]:
    """The commands behind a ``$`` in the README, in order, without those that need no guest."""
    commands = [line[2:] for line in README.read_text().splitlines() if line.startswith("$ ")]
    return [command for command in commands if "kvmtools model " not in command]


def scripts() -> list[str]:
    """The README's Python."""
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(600)
def test_the_session_of_the_readme_runs(tmp_path: Path) -> None:
    commands = session()
    assert commands[0].startswith("kvmtools guest start")
    assert commands[-1].startswith("kvmtools guest stop")
    # A run directory of its own: the person who runs the tests may have a guest of that name.
    tmp_path.chmod(0o700)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(tmp_path)}
    try:
        for command in commands[:-1]:
            done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            assert done.stdout.strip(), command
        assert any("kvmtools.open(" in script for script in scripts())
        for script in scripts():
            words = [sys.executable, "-c", script]
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (script, done.stderr)
            assert done.stdout.strip(), script
    finally:
        done = subprocess.run(commands[-1], shell=True, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

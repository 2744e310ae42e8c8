"""The page of recordings is typed as it stands, and prints what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from console_blocks import environment, run, typed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recordings.md"


def test_recordings_are_as_the_page_tells(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = list(typed(text))
    assert len(commands) > 10
    env = environment(tmp_path)
    try:
        for each in commands[:-1]:
            run(each, tmp_path, env)
        (script,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        words = [sys.executable, "-c", f"import kvmtools\n{script}"]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"True [1-9]\d* \d+ \[.*\]\n", done.stdout)
        assert (tmp_path / "after.vmcore").exists()
    finally:
        run(commands[-1], tmp_path, env)

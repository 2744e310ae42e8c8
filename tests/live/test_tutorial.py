"""The tutorial is typed as it stands, and prints what it shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

from console_blocks import environment, run, typed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "broken_pte.md"


def test_a_broken_pte_is_found_as_the_page_tells(tmp_path: Path) -> None:
    commands = list(typed(PAGE.read_text(encoding="utf-8")))
    assert len(commands) > 8
    env = environment(tmp_path)
    try:
        for each in commands:
            run(each, tmp_path, env)
    finally:
        subprocess.run(["kvmtools", "guest", "stop", "--all"], env=env, check=False, capture_output=True)

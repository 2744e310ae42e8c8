"""No way to a guest stands on docs/guests.md that no test goes."""

from __future__ import annotations

from pathlib import Path

import documented
import pytest

LIVE = Path(__file__).resolve().parents[1] / "live"


@pytest.mark.parametrize("section", [title for title, lines in documented.sections().items() if lines])
def test_a_test_types_it(section: str) -> None:
    typing = [path for path in LIVE.glob("test_*.py") if f'"{section}"' in path.read_text(encoding="utf-8")]
    assert len(typing) == 1, section


def test_there_are_ways() -> None:
    assert len(documented.sections()) > 8

"""``check``: which rules are meant, before any guest is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Invoke = Callable[..., Any]


@pytest.mark.parametrize(
    "words", [("--only", "pkmap", "--skip", "pkmap"), ("--only", "zones", "--skip", "pkmap,zones")]
)
def test_no_rule_is_left(invoke: Invoke, words: tuple[str, ...]) -> None:
    outcome = invoke("check", "-c", "nothing", "-s", "nothing", *words)
    assert outcome.code == 2
    assert "no rule is left" in str(outcome.error)


def test_rules_with_commas(invoke: Invoke) -> None:
    unknown = invoke("check", "-c", "nothing", "--only", "pkmap,nonsense")
    assert unknown.code == 2
    assert "'nonsense'" in str(unknown.error)
    assert invoke("check", "-c", "nothing", "--only", "pkmap,zones").code == 3

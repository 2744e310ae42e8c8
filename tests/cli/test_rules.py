"""``rules``: all of them, a group, one, and none of that name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.compare.rules import RULES

Invoke = Callable[..., Any]


def listed(invoke: Invoke, *words: str) -> list[str]:
    return [rule["rule"] for rule in json.loads(invoke("rules", *words, "--format", "json").out)["rules"]]


def test_all_rules_in_text_and_json(invoke: Invoke) -> None:
    ids = [rule.id for rule in RULES]
    assert listed(invoke) == ids
    text = invoke("rules").out
    assert [line for line in text.splitlines() if line and not line.startswith(" ")] == ids


@pytest.mark.parametrize("word", ["pkmap", RULES[0].id])
def test_some_rules(invoke: Invoke, word: str) -> None:
    expected = [rule.id for rule in RULES if word in (rule.id, rule.group)]
    assert expected
    assert listed(invoke, word) == expected
    assert all(rule in invoke("rules", word).out for rule in expected)


def test_no_such_rule(invoke: Invoke) -> None:
    outcome = invoke("rules", "zork")
    assert outcome.code == 2
    assert "zork" in str(outcome.error)

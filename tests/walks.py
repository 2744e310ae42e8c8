"""``model walk`` for tests: the page tables from files that it reads (fixtures/paging), and its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Invoke = Callable[..., Any]
VECTORS = Path(__file__).resolve().parents[1] / "fixtures" / "paging"


def vector(name: str) -> str:
    return str(VECTORS / f"{name}.txt")


def data(invoke: Invoke, *words: str, code: int = 0) -> dict[str, Any]:
    outcome = invoke("model", "walk", *words, "--format", "json")
    assert outcome.code == code
    document: dict[str, Any] = json.loads(outcome.out)
    assert document["schema"] == "kvmtools/1"
    assert document["command"] == "model walk"
    return document

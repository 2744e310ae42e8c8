"""The page that lists what both sides are told names every field that goes from the guest to the model, and no other.

The rules and files that it names are there, too.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from kvmtools.compare.rules import RULES
from kvmtools.records import Configuration

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "told.md").read_text(encoding="utf-8")
RULE = re.compile(r"`((?:layout|kmap-local|pagetable|pkmap|memmap|buddy|pcp|zones|guest)\.[\w-]+)`")


def test_every_field_is_told() -> None:
    first_columns = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", first_columns))
    assert named == {field.name for field in fields(Configuration)}


def test_what_is_said_to_find_it_are_rules() -> None:
    named = set(RULE.findall(PAGE))
    assert len(named) > 5
    assert named - {rule.id for rule in RULES} == set()


def test_the_files_are_where_it_says() -> None:
    named = re.findall(r"`((?:observe|model|kvmtools)/[\w/.]+)`", PAGE)
    assert len(named) >= 4
    assert [path for path in named if not (ROOT / "kvmtools" / path.removeprefix("kvmtools/")).exists()] == []

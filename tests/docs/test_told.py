"""The page that lists what both sides are told names every field of what goes from the guest to the model."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from kvmtools.records import Configuration

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "told.md").read_text(encoding="utf-8")


def test_every_field_is_told() -> None:
    first_columns = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", first_columns))
    assert {field.name for field in fields(Configuration)} - named == set()

"""The JSON Schema of everything that kvmtools prints as JSON, ``"schema": "kvmtools/1"``: a file of this package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def json_schema_text() -> str:
    """The file as it is, JSON Schema 2020-12."""
    return files(__package__).joinpath("kvmtools-1.schema.json").read_text(encoding="utf-8")


def json_schema() -> dict[str, Any]:
    """The same as data, for a validator."""
    schema: dict[str, Any] = json.loads(json_schema_text())
    return schema

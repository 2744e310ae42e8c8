"""Whether a document of ours is as the published JSON Schema says, with no key that it does not name."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from kvmtools.report.json_schema import json_schema


@cache
def strict() -> Draft202012Validator:
    """The published schema is open, for keys to come; ours of today are all in it."""
    schema = json_schema()
    commands = schema["$defs"].pop("commands")
    closed = {name: _closed(each) for name, each in schema["$defs"].items() if name != "fault"}
    parts = {name: _closed(each, root=True) for name, each in commands.items()}
    schema["$defs"] |= {**closed, "commands": parts}
    # `check` is the head of every document, and a result, which `run` has without the head.
    schema["$defs"]["commands"]["check"] = _opened(schema["$defs"]["result"])
    return Draft202012Validator(
        {**schema, "unevaluatedProperties": False}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def valid(text: str) -> dict[str, Any]:
    """The document.

    :raises jsonschema.ValidationError: if it is not what the schema says
    """
    document: dict[str, Any] = json.loads(text)
    strict().validate(document)
    return document


def _closed(part: Any, *, root: bool = False) -> Any:
    """A part of the schema whose objects have no more keys than it names."""
    if isinstance(part, list):
        return [_closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    inner = {
        key: _closed(value) if key != "properties" else _each_closed(value) for key, value in part.items()
    }
    if "properties" in part and part.get("type") == "object" and not root:
        inner["unevaluatedProperties"] = False
    return inner


def _each_closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: _closed(each) for name, each in properties.items()}


def _opened(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "unevaluatedProperties"}

"""One result, many renderers: text for a person, JSON for a program, JUnit for a CI server, SARIF beside the source.

A renderer is a function of the result alone; adding a format is adding a line to ``RENDERERS``.
"""

from __future__ import annotations

from collections.abc import Callable

from kvmtools.errors import UsageError
from kvmtools.findings import Result
from kvmtools.report.catalogue import rules_text, rules_to_dict
from kvmtools.report.document import SCHEMA, to_dict, to_json
from kvmtools.report.junit import to_junit
from kvmtools.report.sarif import to_sarif
from kvmtools.report.summary import summary
from kvmtools.report.text import to_text

__all__ = ["FORMATS", "RENDERERS", "SCHEMA", "render", "rules_text", "rules_to_dict", "summary", "to_dict"]

RENDERERS: dict[str, Callable[[Result, bool, bool], str]] = {
    "text": to_text,
    "json": lambda result, _color, _verbose: to_json(result),
    "junit": lambda result, _color, _verbose: to_junit(result),
    "sarif": lambda result, _color, _verbose: to_sarif(result),
}

FORMATS = tuple(RENDERERS)


def render(result: Result, form: str = "text", *, color: bool = False, verbose: bool = False) -> str:
    """``result`` as ``form``; ends without a newline.

    :param form: ``"text"``, ``"json"``, ``"junit"`` or ``"sarif"``
    :param verbose: list the rules that agree, too (text; the other formats always do)
    :raises UsageError: if there is no such format
    """
    try:
        renderer = RENDERERS[form]
    except KeyError:
        raise UsageError(f"no format is called {form!r}", hint=f"one of {', '.join(FORMATS)}") from None
    return renderer(result, color, verbose)

"""A verdict and all that was there to be judged as one HTML page, which needs nothing but itself.

The page loads nothing and runs no script but its own: a policy in its head names the digests of the one style sheet and
the one script, so that text of a guest is text even to a browser that the escaping failed.  It is readable without
the script, which draws the address space, moves the cursors and switches the colours.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from kvmtools import __version__
from kvmtools.errors import UsageError
from kvmtools.findings import Status
from kvmtools.report.heading import heading
from kvmtools.report.page.address_space import space_data, space_rows
from kvmtools.report.page.memory_map import memory_data, memory_drawing
from kvmtools.report.page.reported import reported_rules
from kvmtools.report.page.zone_bars import zone_bars
from kvmtools.report.summary import verdict
from kvmtools.show.drawing import slot_mark
from kvmtools.show.printable import printable
from kvmtools.show.style import count, examined
from kvmtools.show.tables import size
from kvmtools.survey import Survey

__all__ = ["needs", "to_html"]

SLOTS_PER_ROW = 32


def needs() -> None:
    """Look whether there is what pages are made with.

    :raises UsageError: if there is not
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UsageError("an HTML page needs jinja2", hint="pip install 'kvmtools[html]'") from None


def to_html(survey: Survey) -> str:
    """The page.

    :raises UsageError: if jinja2 is not there
    """
    needs()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "printable": printable,
        "hex": lambda number: "?" if number is None else f"{number:#x}",
        "number": lambda number: "?" if number is None else f"{number:,}",
        "size": size,
    }
    environment.globals |= {"count": count, "examined": examined}
    template = environment.from_string(_file("page.html.jinja"))
    return template.render(**_content(survey))


def _content(survey: Survey) -> dict[str, Any]:
    """All that the template speaks of."""
    result, style, script = survey.result, _file("page.css"), _file("page.js")
    rules, finding_places = reported_rules(survey)
    grid = survey.pkmap
    return {
        "version": __version__,
        "style": style,
        "script": script,
        "style_digest": _digest(style),
        "script_digest": _digest(script),
        "survey": survey,
        "result": result,
        "verdict": verdict(result, False),
        "heading": heading(result),
        "rules": rules,
        "skipped": [outcome for outcome in result.outcomes if outcome.status is Status.SKIPPED],
        "agreed": result.count(Status.AGREE),
        "unsettled": [outcome for outcome in result.outcomes if outcome.unsettled],
        "space": survey.space,
        "space_rows": space_rows(survey.space),
        "slots": [] if grid is None else [_slot(each, finding_places) for each in grid.slots],
        "slots_per_row": SLOTS_PER_ROW,
        "memory": None
        if survey.pages is None
        else memory_drawing(survey.pages, survey.zones, finding_places),
        "zones": zone_bars(survey.zones, finding_places),
        "places": finding_places,
        "data": {
            "space": space_data(survey.space, finding_places),
            "memory": memory_data(survey.pages, survey.zones, finding_places),
        },
    }


def _slot(slot: Any, places: Any) -> dict[str, Any]:
    mark = slot_mark(slot.count, slot.present)
    kinds = {".": "free", "o": "unused", "!": "odd"}
    return {
        "slot": slot,
        "mark": mark,
        "kind": kinds.get(mark, "used"),
        "users": max(0, slot.count - 1),
        "found": places.of_slot(slot.number),
    }


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a Content-Security-Policy names an inline element by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

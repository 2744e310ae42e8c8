"""``kvmtools model eras``: the constants and switches by which kernels differ, and where each is taken from."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.model.options import complete_era, era_name
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json
from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.eras import COLUMNS
from kvmtools.model.eras.columns import PairColumn
from kvmtools.show.style import paint

WIDTH = 100
"""Columns of text; a terminal that is narrower makes it less."""
NARROWEST = 60
GAP = "  "
#: From here on a number is an address or a size, which people read in hex.
HEX = 1 << 16


def field_name(text: str) -> str:
    """The name of a field.

    :raises UsageError: if there is none of that name
    """
    if text not in COLUMNS:
        from difflib import get_close_matches  # slow to import, and seldom wanted

        near = [field for field in COLUMNS if text and text in field] or get_close_matches(text, COLUMNS)
        raise UsageError(
            f"no era has a field {text!r}" + (f"; did you mean {' or '.join(near[:3])}?" if near else ""),
            hint="kvmtools model eras shows them all",
        )
    return text


def complete_field(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of fields, for the shell's tab key."""
    return [CompletionItem(name) for name in COLUMNS if name.startswith(incomplete)]


@click.command()
@click.argument("names", metavar="[ERA]...", nargs=-1, type=era_name, shell_complete=complete_era)
@click.option(
    "--field",
    "fields",
    metavar="NAME",
    multiple=True,
    type=field_name,
    shell_complete=complete_field,
    help="Only this field; may be given again.",
)
@click.option("--changed", is_flag=True, help="Only the fields in which the eras differ.")
@click.option("--sources", is_flag=True, help="Say which file of which kernel each value is taken from.")
@format_option
def command(names: tuple[str, ...], fields: tuple[str, ...], changed: bool, sources: bool, form: str) -> None:
    """Print what differs between kernels: every constant and switch of the model, era by era.

    Without an ERA, each field has a line for every era that brought a new value; it holds until the next line.  With
    some, their values stand side by side.  A pair a | b is for kernels without and with PAE.  JSON always has the
    sources.

    \b
    kvmtools model eras
    kvmtools model eras 2.4 6.1 --changed
    kvmtools model eras --field pkmap_base --field fixaddr_top --sources
    """
    if changed and len(set(names)) < 2:
        raise UsageError(
            "--changed compares eras", hint="name two or more: kvmtools model eras 2.4 6.1 --changed"
        )
    chosen = [field for field in fields or COLUMNS if not changed or differs(field, names)]
    if form == "json":
        emit_json("model eras", eras=[era_json(name, chosen) for name in names or eras.NAMES])
    elif not chosen:
        emit("nothing differs")
    else:
        emit("\n".join(beside(names, chosen, sources) if names else _history(chosen, sources)))


def _width() -> int:
    """Columns that there are to fill."""
    if not sys.stdout.isatty():
        return WIDTH
    return max(NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def _value(era: str, field: str) -> object:
    return getattr(eras.named(era), field)


def differs(field: str, names: Iterable[str]) -> bool:
    values = [_value(name, field) for name in names or eras.NAMES]
    return any(value != values[0] for value in values)


def era_json(era: str, fields: Iterable[str]) -> dict[str, Any]:
    cells = {
        field: {"value": _data(field, _value(era, field)), "source": eras.source(era, field)}
        for field in fields
    }
    return {"era": era, "fields": cells}


def _data(field: str, value: object) -> object:
    """A value as JSON carries it: a pair is an object, an address a string of hex digits."""
    if isinstance(COLUMNS[field], PairColumn) and isinstance(value, tuple):
        return dict(zip(("non_pae", "pae"), map(_number, value), strict=True))
    return _number(value)


def _number(value: object) -> object:
    if isinstance(value, tuple):
        return [_number(part) for part in value]
    return hex(value) if isinstance(value, int) and value >= HEX else value


def _text(field: str, value: object) -> str:
    """A value as people read it."""
    if isinstance(COLUMNS[field], PairColumn) and isinstance(value, tuple):
        return " | ".join(_words(part) for part in value)
    return _words(value)


def _words(value: object) -> str:
    if value in ((), ""):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(
            " ".join(map(_words, part)) if isinstance(part, tuple) else _words(part) for part in value
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(_number(value))


def _history(fields: Iterable[str], sources: bool) -> Iterator[str]:
    """A line for every cell of the table, the field's name before the first of its cells."""
    first = max(map(len, COLUMNS)) + len(GAP)
    since = max(map(len, eras.NAMES)) + len(GAP)
    yield paint("field".ljust(first) + "since".ljust(since) + "value", bold=True)
    for field in fields:
        named = field
        for era, value, source in COLUMNS[field].cells:
            lines = _wrapped(_text(field, value), _width() - first - since)
            yield named.ljust(first) + era.ljust(since) + lines[0]
            yield from (" " * (first + since) + line for line in lines[1:])
            if sources:
                yield from _source(source, first + since)
            named = ""


def beside(names: tuple[str, ...], fields: Iterable[str], sources: bool) -> Iterator[str]:
    """A line for every field, a column for every era; long values take more lines.

    :raises UsageError: if the eras are too many for the width of the text
    """
    first = max(map(len, COLUMNS))
    width = (_width() - first) // len(names) - len(GAP)
    if width < max(map(len, eras.NAMES)) + 2:
        raise UsageError(f"{len(names)} eras do not fit side by side", hint="name fewer, or none for all")
    yield paint(_line("field".ljust(first), names, width), bold=True)
    for field in fields:
        columns = [_wrapped(_text(field, _value(name, field)), width) for name in names]
        height = max(map(len, columns))
        for row in range(height):
            cells = [column[row] if row < len(column) else "" for column in columns]
            yield _line((field if row == 0 else "").ljust(first), cells, width)
        if sources:
            for source in dict.fromkeys(eras.source(name, field) for name in names):
                yield from _source(source, first + len(GAP))


def _line(head: str, cells: Iterable[str], width: int) -> str:
    return GAP.join([head, *(cell.ljust(width) for cell in cells)]).rstrip()


def _source(source: str, indent: int) -> Iterator[str]:
    return (paint(" " * indent + line, dim=True) for line in _wrapped(source, _width() - indent))


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=True, break_on_hyphens=False) or [""]

"""kvmtools(1), written from the commands themselves: ``python docs/man_page.py FILE``, and into every wheel."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from kvmtools import __doc__ as about
from kvmtools import __version__
from kvmtools.cli.group import cli

EXITS = {
    0: "The guest agrees with the model; the command did what it was asked.",
    1: "A discrepancy was found; an address is not mapped.",
    2: "The request makes no sense.",
    3: "There is no way to the guest, no symbols, or the output cannot be written.",
    4: "An internal error.",
    5: "Inconclusive: nothing could be compared, or what looks wrong could not be judged.",
}
ENVIRONMENT = {
    "XDG_CACHE_HOME": "Kernels and what is known of them are kept in kvmtools/ there; ~/.cache if unset.",
    "XDG_RUNTIME_DIR": "Guests that run have their sockets in kvmtools/ there.",
    "DEBUGINFOD_URLS": "Servers that are asked, by the build id, for symbols that are not here.",
    "LIBVIRT_DEFAULT_URI": "Where the domain of --libvirt is looked for, if --connect is left out.",
    "KVMTOOLS_SOURCE": "The Linux tree or tarball that kernels are built from, instead of the distribution's.",
    "KVMTOOLS_SEED": "Chooses the pages by which a transport proves itself; a report names it.",
    "KVMTOOLS_DEBUG": "If set, an internal error shows its traceback.",
    "NO_COLOR, FORCE_COLOR": "Colours never, or always.",
}


def man_page() -> str:
    """The page, in man(7)'s macros."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH KVMTOOLS 1 "" "kvmtools {__version__}" "User Commands"'
    yield ".SH NAME"
    yield _text((about or "").splitlines()[0].replace(":", r" \-", 1))
    yield ".SH SYNOPSIS"
    yield r"\fBkvmtools\fR \fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(cli.help)
    yield ".SH COMMANDS"
    for context in _commands(click.Context(cli, info_name="kvmtools")):
        yield from _command(context)
    for title, rows in (("EXIT STATUS", EXITS), ("ENVIRONMENT", ENVIRONMENT)):
        yield f".SH {title}"
        for term, said in rows.items():
            yield from _tagged(str(term), said)
    yield ".SH SEE ALSO"
    yield r"\fBqemu\fR(1), \fBgdb\fR(1), \fBdrgn\fR(1)"


def _commands(group: click.Context) -> Iterator[click.Context]:
    """Every command that does something, in order of its name; of a group, those in it."""
    assert isinstance(group.command, click.Group)
    for name in group.command.list_commands(group):
        command = group.command.get_command(group, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=group)
        if isinstance(command, click.Group):
            yield from _commands(context)
        elif not command.hidden:
            yield context


def _command(context: click.Context) -> Iterator[str]:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    yield f".SS {_text(context.command_path)} {_text(pieces)}"
    yield from _paragraphs(context.command.help)
    for parameter in context.command.params:  # without --help
        record = parameter.get_help_record(context)
        if record is not None:
            yield from _tagged(*record)


def _tagged(term: str, said: str) -> Iterator[str]:
    yield from (".TP", rf"\fB{_text(term)}\fR", _text(said))


def _paragraphs(text: str | None) -> Iterator[str]:
    """Click's own marks: a paragraph that begins with ``\\b`` stays as it is."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        lines = paragraph.splitlines()
        as_it_is = lines[:1] == ["\b"]
        yield ".PP"
        if as_it_is:
            yield from (".nf", *map(_text, lines[1:]), ".fi")
        else:
            yield _text(" ".join(lines))


def _text(text: str) -> str:
    """As text to roff: nothing of it is a request."""
    escaped = re.sub(r"\\(?!-)", r"\\e", text).replace("`", "")
    escaped = re.sub(r"(?<!\\)-", r"\\-", escaped)
    return rf"\&{escaped}" if escaped[:1] in {".", "'"} else escaped


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(man_page(), encoding="utf-8")

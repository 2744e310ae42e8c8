"""Data goes to stdout, messages and progress to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from kvmtools.cli import complain, drain, to_stderr
from kvmtools.errors import KvmtoolsError
from kvmtools.show.printable import printable

SCHEMA = "kvmtools/1"


def emit(text: str) -> bool:
    """Data for stdout, with exactly one newline at its end; whether somebody may be reading it.

    Nobody reads on behind ``| head``, and the command goes on: its exit code is an answer, too.
    """
    try:
        click.echo(text.rstrip("\n"), color=True)
    except BrokenPipeError:
        drain(sys.stdout)
        return False
    return True


def emit_json(command: str, **data: Any) -> None:
    """One JSON document: the schema, the command that made it, then its data in the order given."""
    emit(json.dumps({"schema": SCHEMA, "command": command, **data}, indent=2))


def note(said: str | KvmtoolsError) -> None:
    """A message for the person, on stderr."""
    complain(said)


def progress() -> Callable[[str], None]:
    """A function that shows what goes on: one line rewritten in place on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        return lambda _line: None
    started = time.monotonic()

    def show(line: str) -> None:
        width = max(20, (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1)
        text = f"{printable(line)}  [{time.monotonic() - started:.0f} s]"[:width]
        to_stderr(f"\r\x1b[K{text}" if line else "\r\x1b[K")

    return show

"""Texts that a person wrote: what a file holds, or stdin, unless it is endless."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from kvmtools.errors import UsageError

MOST = 16 << 20
"""Bytes; nobody writes more by hand, and /dev/zero never ends."""
STDIN = "-"
_TAKEN = f"{__name__}.taken"


def read_text(path: str, name: str, *, errors: str = "strict", hint: str = "name a file") -> str:
    """The text of a file; ``-`` means stdin, whatever its ``name``.

    :param name: what the file is called in messages
    :param errors: what to do with bytes that are no UTF-8, as for :func:`open`
    :param hint: the way out, if there is no such text
    :raises OSError: if it cannot be read
    :raises UsageError: if it is no text, or larger than :data:`MOST`, or stdin is closed, or something else came by it
    """
    if path == STDIN:
        _take_stdin(name)
        name = "stdin"
        if sys.stdin is None:
            raise UsageError("stdin is closed", hint=hint)
        data = _bounded(sys.stdin.buffer, name)
    else:
        with open(path, "rb") as file:
            data = _bounded(file, name)
    try:
        return data.decode(errors=errors).replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not text", hint=hint) from None


def script_text(path: str | None) -> str:
    """The text of a script; ``None`` and ``-`` mean stdin.

    :raises UsageError: if it cannot be read, or is no text
    """
    path = STDIN if path is None else path
    name = "the script" if path == STDIN else f"the script '{path}'"
    try:
        return read_text(path, name, hint="name a script")
    except OSError as error:
        raise UsageError(f"cannot read {'stdin' if path == STDIN else name}: {error.strerror}") from error


def refuse_endless(size: int, name: str) -> None:
    """:raises UsageError: if that many bytes are more than :data:`MOST`"""
    if size > MOST:
        raise UsageError(f"{name} is larger than {MOST >> 20} MiB")


def _take_stdin(name: str) -> None:
    """:raises UsageError: if another text of this command was to come by stdin, which then is at its end"""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    first = context.meta.setdefault(_TAKEN, name)
    if first != name:
        raise UsageError(f"{first} and {name} cannot both come by stdin", hint="name a file for one of them")


def _bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(MOST + 1)
    refuse_endless(len(data), name)
    return data

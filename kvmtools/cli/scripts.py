"""Texts that a person wrote: what a file holds, or stdin, unless it is endless."""

from __future__ import annotations

import sys
from typing import BinaryIO

from kvmtools.errors import UsageError

MOST = 16 << 20
"""Bytes; nobody writes more by hand, and /dev/zero never ends."""
STDIN = "-"


def read_text(path: str, name: str, *, errors: str = "strict", hint: str = "name a file") -> str:
    """The text of a file; ``-`` means stdin, whatever its ``name``.

    :param name: what the file is called in messages
    :param errors: what to do with bytes that are no UTF-8, as for :func:`open`
    :param hint: the way out, if there is no such text
    :raises OSError: if it cannot be read
    :raises UsageError: if it is no text, or larger than :data:`MOST`, or stdin is closed
    """
    if path == STDIN:
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
    name = "stdin" if path in (None, STDIN) else f"the script '{path}'"
    try:
        return read_text(STDIN if path is None else path, name, hint="name a script")
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error


def refuse_endless(size: int, name: str) -> None:
    """:raises UsageError: if that many bytes are more than :data:`MOST`"""
    if size > MOST:
        raise UsageError(f"{name} is larger than {MOST >> 20} MiB")


def _bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(MOST + 1)
    refuse_endless(len(data), name)
    return data

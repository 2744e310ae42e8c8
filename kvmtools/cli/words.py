"""The words that a person gives to a command: its arguments, or what comes by stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedIOBase

from kvmtools.cli.scripts import STDIN, read_text, refuse_endless
from kvmtools.errors import UsageError

BATCH = 1000
"""Lines of stdin that are answered at a time."""


def refuse_nothing(arguments: Sequence[str]) -> None:
    """:raises UsageError: if there are no arguments, or one is ``-``, and stdin is no source of them"""
    if sys.stdin is None and (not arguments or STDIN in arguments):
        raise UsageError("stdin is closed", hint="give addresses as arguments")
    if not arguments and sys.stdin.isatty():
        raise UsageError("no address was given", hint="give some, or write them to stdin")


def words(arguments: Sequence[str]) -> Iterator[str]:
    """``arguments``, or the words of stdin where there are none or one is ``-``; see :func:`batches`.

    :raises UsageError: if there is nothing to read, or no end of it
    """
    refuse_nothing(arguments)
    for argument in arguments or (STDIN,):
        yield from (
            _words(read_text(STDIN, "the list of words").split("\n")) if argument == STDIN else (argument,)
        )


def batches() -> Iterator[list[str]]:
    """The words of stdin, as many at a time as have come, at most :data:`BATCH` lines; blank lines and what follows a
    ``#`` are nothing.

    :raises UsageError: if a line has no end
    """
    stdin = sys.stdin.buffer
    assert isinstance(stdin, BufferedIOBase)
    rest = b""
    while chunk := stdin.read1(1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        for first in range(0, len(lines), BATCH):
            yield _words(_decoded(lines[first : first + BATCH]))
        refuse_endless(len(rest), "a line of stdin")
    yield _words(_decoded([rest]))


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    return (line.decode(errors="replace") for line in lines)


def _words(lines: Iterable[str]) -> list[str]:
    return [word for line in lines for word in line.partition("#")[0].split()]

"""A file that is there as a whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kvmtools.errors import OutputError


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which has its name when the ``with`` ends well; else nothing is left of it.

    What was there before is replaced at that moment, and not if it is no file.  Nobody but its owner may read it: a
    guest's memory holds secrets.

    :raises OutputError: for an ``OSError`` within, and at either end
    """
    goal = Path(os.path.realpath(path))  # a symbolic link stays one
    if goal.exists() and not goal.is_file():
        raise OutputError(f"{path} is not a file", hint="name a new file")
    try:
        descriptor, name = tempfile.mkstemp(dir=goal.parent, prefix=f".{goal.name[:200]}-")
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, goal)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise _unwritten(path, error) from error
        raise
    _settle(goal.parent)


def _settle(folder: Path) -> None:
    """The new name reaches the disk, too; a file system that cannot promise it is none to complain of."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritten(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}")

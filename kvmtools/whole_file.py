"""A file that is there as a whole, or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kvmtools.errors import OutputError

SECRET = 0o600
"""Nobody but its owner may read it: a guest's memory holds secrets."""


@contextmanager
def whole_file(path: Path, mode: int = SECRET) -> Iterator[IO[bytes]]:
    """A file to write to, which has its name when the ``with`` ends well; else nothing is left of it.

    What was there before is replaced at that moment, and not if it is no file.

    :raises OutputError: for an ``OSError`` within, and at either end
    """
    goal = Path(os.path.realpath(path))  # a symbolic link stays one
    if goal.exists() and not goal.is_file():
        raise OutputError(f"{path} is not a file", hint="name a new file")
    try:
        descriptor, name = _beside(goal)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(name, goal)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise _unwritten(path, error) from error
        raise
    _settle(goal.parent)


def usual_mode(path: Path) -> int:
    """Who may do what with the file that is there; with a new one, what the person's umask leaves to all."""
    try:
        return stat.S_IMODE(path.stat().st_mode) & 0o777
    except OSError:
        umask = os.umask(0o077)
        os.umask(umask)
        return 0o666 & ~umask


def look_for_place(path: Path) -> None:
    """Make a file where :func:`whole_file` would, and take it away.

    :raises OutputError: if none can be made
    """
    try:
        descriptor, name = _beside(Path(os.path.realpath(path)))
        os.close(descriptor)
        os.unlink(name)
    except OSError as error:
        raise _unwritten(path, error) from error


def _beside(goal: Path) -> tuple[int, str]:
    """A new file of a name that nobody can know before, in the folder of ``goal``."""
    return tempfile.mkstemp(dir=goal.parent, prefix=f".{goal.name[:200]}-")


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

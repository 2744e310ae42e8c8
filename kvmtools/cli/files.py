"""Files that commands write: there at once and whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from kvmtools.errors import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` there at once: whoever looks sees the old file or all of the new one.

    :raises OutputError: if it cannot be written
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a FIFO: nothing to replace
            path.write_bytes(data)
            return
        try:
            beside.write_bytes(data)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def look_writable(path: Path) -> None:
    """Refuse a place for a file before there is anything to write: a command's work may take long.

    :raises OutputError: if no file can be made there
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        if path.exists() and not path.is_file():
            return
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(b"")
        beside.unlink()
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> OutputError:
    """What to say of a file that could not be written."""
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", hint="name a file in a directory that is yours"
    )

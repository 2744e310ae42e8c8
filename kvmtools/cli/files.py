"""Files that commands write: there at once and whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from kvmtools.errors import OutputError
from kvmtools.whole_file import look_for_place, usual_mode, whole_file

_HINT = "name a file in a directory that is yours"
_LINKS = 40
"""As many symbolic links as Linux follows."""


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` there at once: whoever looks sees the old file or all of the new one.

    A symbolic link stays one, and a file keeps its mode.  A FIFO, a device and what is open already (``/dev/stdout``)
    are written to.

    :raises OutputError: if it cannot be written
    """
    try:
        if (descriptor := _open_already(path)) is not None:
            with os.fdopen(os.dup(descriptor), "wb") as file:  # not opened anew: a file would be cut off
                file.write(data)
        elif _is_special(path):
            path.write_bytes(data)
        else:
            with whole_file(path, usual_mode(path)) as file:
                file.write(data)
    except OSError as error:
        raise unwritable(path, error) from None
    except OutputError as error:
        raise OutputError(error.message, hint=_HINT) from None


def look_writable(path: Path) -> None:
    """Refuse a place for a file before there is anything to write: a command's work may take long.

    :raises OutputError: if no file can be made there
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        if _open_already(path) is None and not _is_special(path):
            look_for_place(path)
    except OSError as error:
        raise unwritable(path, error) from None
    except OutputError as error:
        raise OutputError(error.message, hint=_HINT) from None


def unwritable(path: Path, error: OSError) -> OutputError:
    """What to say of a file that could not be written."""
    return OutputError(f"cannot write {path}: {error.strerror or error}", hint=_HINT)


def _is_special(path: Path) -> bool:
    """Whether there is something that is no file, and cannot be replaced by one."""
    return path.exists() and not path.is_file()


def _open_already(path: Path) -> int | None:
    """The descriptor of ours that ``path`` leads to, as ``/dev/stdout`` does, be it a file's."""
    for _ in range(_LINKS):
        folder = os.path.realpath(path.parent)
        if folder == f"/proc/{os.getpid()}/fd" and path.name.isdecimal():
            return int(path.name)
        here = Path(folder, path.name)
        if not here.is_symlink():
            return None
        path = Path(folder, os.readlink(here))
    return None

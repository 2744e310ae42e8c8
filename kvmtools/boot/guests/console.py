"""What a guest's kernel printed: the file behind its first serial port.

QEMU appends to it for as long as the guest runs, and the run directory is memory.  So whoever looks at the guest frees
what lies between the boot messages and the latest ones, once the file takes more than :data:`LARGEST`.
"""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path

from kvmtools.paths import cache_dir
from kvmtools.records import PANIC_WORDS

LARGEST = 4 << 20
"""Bytes that the file may take."""
_FIRST, _LATEST = 256 << 10, 1 << 20  # bytes that are kept of a larger one
_PIECE = 64 << 10
_LONGEST_LINE = 1024
# With its line's end, for it may be read while it is being written.
_PANIC = re.compile(rb"(" + PANIC_WORDS + rb"[^\r\n]*)[\r\n]")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02  # linux/falloc.h


class Console:
    """The messages of one guest, looked at again and again; only what is new is read.

    :param start: how many bytes of the file are of no interest
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path = path
        self._read = start
        self._rest = b""

    def panic(self) -> str:
        """Why the kernel panicked, in its own words; ``""`` if it did not say so since the last look."""
        while piece := self._next():
            text = self._rest + piece
            self._rest = text[-_LONGEST_LINE:]
            if found := _PANIC.search(text):
                return found[1].decode(errors="replace")
        return ""

    def _next(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                piece = file.read(_PIECE)
        except OSError:
            return b""
        self._read += len(piece)
        return piece


def panic(path: Path) -> str:
    """Why the kernel panicked, if its latest messages say that it did; ``""`` if not."""
    try:
        return Console(path, max(0, path.stat().st_size - _PIECE)).panic()
    except OSError:
        return ""


def last_line(path: Path) -> str:
    """The last line of a log that is not blank; ``""`` if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _PIECE))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    stripped = (line.strip("\0 \t\r") for line in reversed(lines))
    return next((line for line in stripped if line), "")


def trim(path: Path) -> None:
    """Free the middle of a file that has become large; its length and its latest messages stay.

    QEMU may be writing: nothing at the end is touched.  Does nothing where the file system cannot do it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        if status.st_blocks * 512 > LARGEST:
            _libc.fallocate(descriptor, _KEEP_SIZE_AND_PUNCH_HOLE, _FIRST, status.st_size - _LATEST - _FIRST)
    finally:
        os.close(descriptor)


def keep(path: Path, name: str) -> Path | None:
    """Copy the messages of a guest that is to be removed to where they survive; ``None`` if there are none."""
    kept = cache_dir() / "logs" / f"{name}.console.log"
    try:
        if not path.stat().st_size:
            return None
        kept.parent.mkdir(parents=True, exist_ok=True)
        _copy_ends(path, kept)
    except OSError:
        with suppress(OSError):
            kept.unlink()
        return None
    return kept


def _copy_ends(path: Path, kept: Path) -> None:
    """Copy what :func:`trim` leaves of a file: its size may be a thousand times what it holds."""
    import shutil  # 2 ms

    with path.open("rb") as messages, kept.open("wb") as copy:
        size = os.fstat(messages.fileno()).st_size
        if size <= _FIRST + _LATEST:
            shutil.copyfileobj(messages, copy)
            return
        copy.write(messages.read(_FIRST))
        messages.seek(size - _LATEST)
        shutil.copyfileobj(messages, copy)

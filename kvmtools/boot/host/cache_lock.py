"""One maker at a time for each thing in the cache: a file lock, which the kernel drops with its holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmtools.errors import BuildError


def unusable(folder: Path, error: OSError) -> BuildError:
    """What to say of a folder of the cache that cannot be read or written to."""
    return BuildError(
        f"the cache {folder} cannot be used: {error.strerror}", hint="set XDG_CACHE_HOME to another place"
    )


@contextmanager
def exclusive(place: Path, progress: Callable[[str], None], doing: str) -> Iterator[int]:
    """Hold the lock of ``place`` (a path in the cache that need not exist); waits for whoever has it, and says so.

    Yields the lock's file descriptor.  A child process that inherits it keeps the lock for as long as it runs,
    even if we are killed.

    :param doing: what the other one is up to, for the message
    :raises BuildError: if the cache cannot be written to
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(place.parent / f".{place.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(place.parent, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another kvmtools is {doing}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)

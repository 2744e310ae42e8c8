"""Guests on file: each has a folder in the run directory, with a record in it (:mod:`record`).

The folder is also the lock: whoever starts or removes a guest holds ``flock`` on it, which the host's kernel lets go of
however the holder ends.  A guest is alive if the process that its record names is.  What has no record is not ours, and
is left alone; what has one that cannot be read may be alive, and is left alone, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.guests import console, ram_location, record
from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.guests.record import Guest, Record, Unreadable
from kvmtools.errors import AttachError, GuestVanished, UsageError
from kvmtools.paths import run_dir

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True)
class DeadGuest:
    """What is known of a guest whose QEMU ended.

    :ivar last_output: what QEMU, or else the kernel's console, said last
    :ivar messages: where all that the kernel printed is kept, if it did
    """

    name: str
    pid: int
    last_output: str
    messages: Path | None = None

    def __str__(self) -> str:
        kept = f"; what it printed is in {self.messages}" if self.messages else ""
        return f"guest '{self.name}' died (QEMU pid {self.pid}): {self.last_output}{kept}"


def directory_of(name: str) -> Path:
    """The folder of the guest ``name``, whether it exists or not.

    :raises UsageError: if ``name`` cannot be a guest's name
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be a guest's name",
            hint="letters, digits, '.', '_' and '-', at most 32, the first a letter or a digit",
        )
    return run_dir() / name


def look(name: str) -> Record | None:
    """What is on file under ``name``; ``None`` if nothing of ours is."""
    return record.read(directory_of(name))


def records() -> list[Record]:
    """Everything that is on file, by name."""
    names = sorted(entry.name for entry in run_dir().iterdir() if _NAME.fullmatch(entry.name))
    found = (look(name) for name in names)
    return [each for each in found if each is not None]


def find(name: str) -> Guest:
    """The running guest of that name.

    :raises GuestVanished: if its QEMU died; what it left is cleaned up
    :raises AttachError: if there is none; the hint names those that run.  Also if its record cannot be read
    """
    found = look(name)
    if isinstance(found, Guest) and found.alive:
        return found
    if isinstance(found, Unreadable):
        raise found.error()
    dead = clean_up(name)
    if dead is not None:
        raise GuestVanished(str(dead), hint=f"start it again: kvmtools guest start {name}")
    running = ", ".join(other.name for other in all_guests())
    raise AttachError(
        f"no guest '{name}' is running",
        hint=f"running: {running}" if running else f"start it: kvmtools guest start {name}",
    )


def all_guests() -> list[Guest]:
    """The guests that run, by name."""
    return [found for found in records() if isinstance(found, Guest) and found.alive]


def unreadable() -> list[Unreadable]:
    """What is on file and may be a guest that runs, by name; nothing is done to such a one."""
    return [found for found in records() if isinstance(found, Unreadable)]


def sweep() -> list[DeadGuest]:
    """Clean up after every guest whose QEMU died, and tell what became of each."""
    cleaned = (clean_up(found.name) for found in records())
    return [dead for dead in cleaned if dead is not None]


@contextmanager
def claimed(name: str) -> Iterator[Path]:
    """The folder of a guest that is to be started: made, marked as ours, cleared of an earlier guest's files, and held.

    If nothing came to be there in the end, it is removed.

    :raises UsageError: if a guest of that name runs or may run, another process holds the folder, or it is not ours
    :raises OSError: if it cannot be made
    """
    with _holding(name, create=True) as directory:
        assert directory is not None
        _demand_free(name, directory)
        remove(name, keep_messages=True)
        record.write_unfinished(directory, name)
        yield directory


@contextmanager
def locked(name: str, *, wait: float = 0.0) -> Iterator[Record | None]:
    """What is on file under ``name``, while nobody else can change it; ``None`` if nothing of ours is.

    :raises UsageError: if another process still holds the folder after ``wait`` seconds
    """
    with _holding(name, wait=wait) as directory:
        yield None if directory is None else record.read(directory)


def remove(name: str, *, keep_messages: bool = False) -> DeadGuest | None:
    """Delete all that a dead guest left: its sockets, its logs, its RAM file, the record last.

    The caller holds the folder, and removes it in the end.  Only files of names that we give are touched.

    :param keep_messages: nobody wanted it to end: its console is worth a look
    """
    directory = directory_of(name)
    found = record.read(directory)
    if found is None:
        return None
    files = GuestFiles(directory)
    guest = found if isinstance(found, Guest) else None
    messages = console.keep(files.console, name) if guest and keep_messages else None
    dead = DeadGuest(name, guest.pid, files.last_output(), messages) if guest else None
    ram_location.discard(name, directory, *([guest.ram] if guest else []))
    for path in files.all:
        path.unlink(missing_ok=True)
    return dead


def clean_up(name: str) -> DeadGuest | None:
    """Remove ``name`` if its QEMU ended or was never started; ``None`` if it lives, may live, or somebody holds it."""
    try:
        with locked(name) as found:
            if isinstance(found, Unreadable) or (isinstance(found, Guest) and found.alive):
                return None
            return remove(name, keep_messages=True)
    except UsageError:
        return None


def _demand_free(name: str, directory: Path) -> None:
    """:raises UsageError: if ``directory``, which we hold, is not free for a guest to be started"""
    found = record.read(directory)
    if isinstance(found, Unreadable):
        raise UsageError(found.message, hint=f"choose another name; or {found.way_out}")
    if isinstance(found, Guest) and found.alive:
        raise UsageError(
            f"guest '{name}' is already running (QEMU pid {found.pid})",
            hint=f"choose another name, or stop it: kvmtools guest stop {name}",
        )
    if found is None and any(directory.iterdir()):
        raise _not_ours(directory)


def _not_ours(directory: Path) -> UsageError:
    return UsageError(
        f"{directory} is not a guest's folder",
        hint="choose another name, or move it out of the run directory",
    )


@contextmanager
def _holding(name: str, *, create: bool = False, wait: float = 0.0) -> Iterator[Path | None]:
    """Hold the guest's folder; ``None`` if there is none with a record, and ``create`` is false.

    If it is empty at the end, it is removed.
    """
    path = directory_of(name)
    deadline = time.monotonic() + wait
    fd = None
    while fd is None:
        if create:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
        elif record.read(path) is None:
            yield None
            return
        try:
            fd = _try_lock(path)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            raise _not_ours(path) from None
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise UsageError(
                    f"guest '{name}' is being started or stopped by another process",
                    hint="wait for it, or choose another name",
                ) from None
            time.sleep(0.05)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()
        os.close(fd)


def _try_lock(path: Path) -> int | None:
    # A symbolic link is no directory to O_NOFOLLOW.
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and flock its former holder may have removed it: then what we hold is gone.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None

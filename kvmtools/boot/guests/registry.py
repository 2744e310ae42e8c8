"""Guests on file: each has a directory under the run directory, with ``guest.json`` in it.

The directory is also the lock: whoever starts or removes a guest holds ``flock`` on it, which the host's
kernel lets go of however the holder ends.  A guest is alive if the process that ``guest.json`` names is;
anything else under the run directory is what somebody left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kvmtools.boot.guests import ram_location
from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.host import detached
from kvmtools.errors import UsageError
from kvmtools.paths import run_dir

SCHEMA = "kvmtools/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True)
class Guest:
    """A guest that kvmtools started.

    :ivar started: when its QEMU started, in clock ticks since the host booted; with ``pid``, one process
    :ivar qmp: our monitor's unix socket; ``drgn_qmp`` is a second one, for the user
    :ivar kernel: ``pae``, ``nopae``, or the path of a kernel image
    :ivar command: QEMU's argument vector
    """

    name: str
    pid: int
    started: int
    directory: Path
    qmp: Path
    drgn_qmp: Path
    gdb: Path
    agent: Path
    console: Path
    ram: Path
    memory_bytes: int
    smp: int
    kernel: str
    vmlinux: Path | None
    accel: str
    command: tuple[str, ...]

    @property
    def alive(self) -> bool:
        """Whether its QEMU process still runs."""
        return detached.is_alive(self.pid, self.started)


@dataclass(frozen=True)
class Obituary:
    """What is known of a guest whose QEMU is gone."""

    name: str
    pid: int
    last_words: str

    def __str__(self) -> str:
        return f"guest '{self.name}' died (QEMU pid {self.pid}): {self.last_words}"


def directory_of(name: str) -> Path:
    """The directory of the guest ``name``, whether it exists or not.

    :raises UsageError: if ``name`` cannot be a guest's name
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be a guest's name",
            hint="letters, digits, '.', '_' and '-', at most 32, the first a letter or a digit",
        )
    return run_dir() / name


def names() -> list[str]:
    """The names on file, alive or not, in order."""
    return sorted(
        entry.name for entry in run_dir().iterdir() if entry.is_dir() and _NAME.fullmatch(entry.name)
    )


@contextmanager
def locked(name: str, *, create: bool = False, wait: float = 0.0) -> Iterator[Path | None]:
    """Hold the guest's directory for ourselves; ``None`` if there is none and ``create`` is false.

    A directory that is empty at the end is removed.

    :raises UsageError: if another process still holds it after ``wait`` seconds
    """
    path = directory_of(name)
    deadline = time.monotonic() + wait
    fd = None
    while fd is None:
        if create:
            path.mkdir(mode=0o700, exist_ok=True)
        elif not path.is_dir():
            break
        try:
            fd = _try_lock(path)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise UsageError(
                    f"guest '{name}' is being started or stopped by another process",
                    hint="wait for it, or choose another name",
                ) from None
            time.sleep(0.05)
    if fd is None:
        yield None
        return
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()
        os.close(fd)


def _try_lock(path: Path) -> int | None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and flock its former holder may have removed it: then we locked a ghost.
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def save(guest: Guest) -> None:
    """Write ``guest.json``, in one step."""
    path = GuestFiles(guest.directory).record
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"schema": SCHEMA, **as_json(guest)}, indent=2) + "\n")
    fresh.replace(path)


def as_json(guest: Guest) -> dict[str, object]:
    """The guest's fields as JSON values; paths become strings, units appear in the key names."""
    data = {
        key: os.fspath(value) if isinstance(value, Path) else value for key, value in asdict(guest).items()
    }
    data["started_ticks"] = data.pop("started")
    data["command"] = list(guest.command)
    return data


def load(name: str) -> Guest | None:
    """The guest on file under ``name``, alive or not; ``None`` if nothing readable is there."""
    try:
        data = json.loads(GuestFiles(directory_of(name)).record.read_text())
        data["started"] = data.pop("started_ticks")
        data["command"] = tuple(data["command"])
        for key in _PATHS:
            data[key] = None if data[key] is None else Path(data[key])
        return Guest(**{field.name: data[field.name] for field in fields(Guest)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


_PATHS = [field.name for field in fields(Guest) if "Path" in str(field.type)]


def remove(name: str) -> Obituary | None:
    """Delete all that a dead guest left: its sockets, its logs, its RAM file.  The caller holds the lock.

    The directory itself stays, since it is the lock; :func:`locked` removes it when it lets go.
    """
    directory = directory_of(name)
    guest = load(name)
    obituary = Obituary(name, guest.pid, GuestFiles(directory).last_words()) if guest else None
    if guest is not None:
        guest.ram.unlink(missing_ok=True)
    ram_location.discard(name, directory)
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return obituary


def bury(name: str) -> Obituary | None:
    """Clean up after ``name`` if its QEMU is dead; ``None`` if it lives, or is in somebody else's hands."""
    try:
        with locked(name) as directory:
            if directory is None:
                return None
            guest = load(name)
            return None if guest is not None and guest.alive else remove(name)
    except UsageError:
        return None

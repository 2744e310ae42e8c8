"""What we know of a guest, and ``guest.json``, the file in its folder that says it.

The file is also the mark by which a folder is ours.  A start writes it before anything else, without a process; a
clean-up removes it last.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.host import detached
from kvmtools.errors import AttachError

if TYPE_CHECKING:
    from kvmtools.boot.guests.agent import Agent

SCHEMA = "kvmtools/1"


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

    @property
    def inside(self) -> Agent:
        """Our init in it, if its kernel is one of ours: ``driver("mix 400")``, ``workload("fork")``, ``text(path)``."""
        from kvmtools.boot.guests.agent import Agent

        return Agent(self.agent)


@dataclass(frozen=True)
class Unfinished:
    """A folder that a start took, without having come to its QEMU."""

    name: str


@dataclass(frozen=True)
class Unreadable:
    """A record that says too little to tell whether its guest is alive: of another version of kvmtools, or damaged.

    :ivar process: pid and start ticks of its QEMU, as far as they are readable
    """

    name: str
    path: Path
    reason: str
    process: tuple[int, int] | None = None

    @property
    def message(self) -> str:
        return f"the record of guest '{self.name}' cannot be read: {self.reason} ({self.path})"

    @property
    def way_out(self) -> str:
        remove = f"remove {self.path.parent}"
        if self.process is None:
            return f"see that its QEMU has ended, then {remove}"
        if detached.is_alive(*self.process):
            return f"stop it with the kvmtools that started it; or kill {self.process[0]}, its QEMU, and {remove}"
        return f"its QEMU has ended: {remove}"

    def error(self) -> AttachError:
        return AttachError(self.message, hint=self.way_out)

    def __str__(self) -> str:
        return f"{self.message}; {self.way_out}"


Record = Guest | Unfinished | Unreadable


def read(directory: Path) -> Record | None:
    """What the folder's record says; ``None`` if it has none, or is not a folder itself."""
    path = GuestFiles(directory).record
    try:
        if not (stat.S_ISDIR(directory.lstat().st_mode) and stat.S_ISREG(path.lstat().st_mode)):
            return None
        data = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Unreadable(directory.name, path, f"{error.strerror}")
    except UnicodeDecodeError:
        return Unreadable(directory.name, path, "it is not UTF-8")
    except ValueError:
        return Unreadable(directory.name, path, "it is not JSON")
    if not isinstance(data, dict):
        return Unreadable(directory.name, path, "it is not an object")
    return _parsed(directory.name, path, data)


def write(guest: Guest) -> None:
    """Write the guest's record, in one step.

    :raises OSError: if it cannot be written
    """
    _write(guest.directory, as_json(guest))


def write_unfinished(directory: Path, name: str) -> None:
    """Mark ``directory`` as taken by a start of ``name``.

    :raises OSError: if the record cannot be written
    """
    _write(directory, {"name": name, "pid": None})


def as_json(guest: Guest) -> dict[str, object]:
    """The guest's fields as JSON values; paths become strings, units appear in the key names."""
    data = {
        key: os.fspath(value) if isinstance(value, Path) else value for key, value in asdict(guest).items()
    }
    data["started_ticks"] = data.pop("started")
    data["command"] = list(guest.command)
    return data


def _write(directory: Path, data: dict[str, object]) -> None:
    files = GuestFiles(directory)
    files.new_record.write_text(json.dumps({"schema": SCHEMA, **data}, indent=2) + "\n")
    files.new_record.replace(files.record)


def _parsed(name: str, path: Path, data: dict[str, Any]) -> Record:
    try:
        if data.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {data.get('schema')!r}, not '{SCHEMA}'")
        if data["name"] != name:
            raise ValueError(f"it is the record of {data['name']!r}")
        if data["pid"] is None:
            return Unfinished(name)
        written = {**data, "started": data["started_ticks"]}
        readers = {field.name: _READERS[str(field.type)] for field in fields(Guest)}
        return Guest(**{key: read_as(key, written[key]) for key, read_as in readers.items()})
    except KeyError as missing:
        return Unreadable(name, path, f"it has no '{missing.args[0]}'", _process(data))
    except ValueError as error:
        return Unreadable(name, path, str(error), _process(data))


def _process(data: dict[str, Any]) -> tuple[int, int] | None:
    try:
        return _number("pid", data["pid"]), _number("started_ticks", data["started_ticks"])
    except (KeyError, ValueError):
        return None


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"its '{name}' is {value!r}")
    return value


def _number(name: str, value: object) -> int:
    # No number in it is 0 or negative; to the system calls that take a pid, such a one means many processes.
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"its '{name}' is {value!r}")
    return value


def _path(name: str, value: object) -> Path:
    return Path(_text(name, value))


def _path_or_none(name: str, value: object) -> Path | None:
    return None if value is None else _path(name, value)


def _words(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"its '{name}' is {value!r}")
    return tuple(_text(name, word) for word in value)


_READERS: dict[str, Callable[[str, object], Any]] = {
    "str": _text,
    "int": _number,
    "Path": _path,
    "Path | None": _path_or_none,
    "tuple[str, ...]": _words,
}
"""By the type of a field of :class:`Guest`, as it is written there."""

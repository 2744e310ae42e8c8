"""The names of a guest's files, all inside its run directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.guests import console
from kvmtools.errors import UsageError

# struct sockaddr_un has 108 bytes for a path, the closing NUL included: unix(7).
LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True)
class GuestFiles:
    """Where the guest that lives in ``directory`` has its sockets, logs and record."""

    directory: Path

    @property
    def qmp(self) -> Path:
        """Our monitor."""
        return self.directory / "qmp.sock"

    @property
    def drgn_qmp(self) -> Path:
        """The user's monitor: QMP serves one client at a time."""
        return self.directory / "drgn.sock"

    @property
    def gdb(self) -> Path:
        return self.directory / "gdb.sock"

    @property
    def agent(self) -> Path:
        """The guest's second serial port."""
        return self.directory / "agent.sock"

    @property
    def console(self) -> Path:
        """What the kernel printed on ttyS0; a plain file."""
        return self.directory / "console.log"

    @property
    def qemu_log(self) -> Path:
        """QEMU's own stdout and stderr."""
        return self.directory / "qemu.log"

    @property
    def record(self) -> Path:
        """What we know of the guest, JSON."""
        return self.directory / "guest.json"

    @property
    def new_record(self) -> Path:
        """The record while it is being written."""
        return self.directory / "guest.new"

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that a guest may have here, the record last: it is what shows that the folder is ours."""
        sockets = (self.qmp, self.drgn_qmp, self.gdb, self.agent)
        return (*sockets, self.console, self.qemu_log, self.new_record, self.record)

    def check_lengths(self) -> None:
        """:raises UsageError: if a path is too long for a unix socket"""
        longest = max(len(os.fsencode(path)) for path in (self.qmp, self.drgn_qmp, self.gdb, self.agent))
        if longest > LONGEST_SOCKET_PATH:
            raise UsageError(
                f"the run directory {self.directory} is too long for unix sockets"
                f" ({longest} bytes, {LONGEST_SOCKET_PATH} fit)",
                hint="choose a shorter guest name, or a shorter XDG_RUNTIME_DIR",
            )

    def last_output(self) -> str:
        """What QEMU said last on stderr, else what the kernel printed last on its console."""
        said = console.last_line(self.qemu_log)
        if said:
            return said
        printed = console.last_line(self.console)
        return f"QEMU said nothing; the console ends with: {printed}" if printed else "QEMU said nothing"

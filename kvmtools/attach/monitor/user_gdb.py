"""QEMU's human monitor behind a user's own gdb, which holds the gdbstub, and with it the guest."""

from __future__ import annotations

import socket
from collections.abc import Callable

from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError

Ask = Callable[[str], str]
"""Brings one line to QEMU's human monitor, and its answer back; raises :exc:`AttachError` if it cannot."""


class UserGdbMonitor(Monitor):
    """The guest is the user's to stop and to continue, and the stub gdb's: all that is refused here.

    :param address: where gdb has reached QEMU
    :param connection: gdb's socket to it, if that is known; ours is closed with the monitor
    """

    name = "the human monitor"
    resumes = "gdb's continue"

    def __init__(self, ask: Ask, address: str, connection: socket.socket | None = None) -> None:
        self.address = address
        self._ask = ask
        self._socket = connection

    def hmp(self, line: str) -> str:
        return self._ask(line).replace("\r\n", "\n")

    def again(self, seconds: float) -> Monitor:
        raise AttachError(f"{self.address}: there is no other way to this QEMU")

    def stop(self) -> None:
        raise self._not_ours()

    def cont(self) -> None:
        raise self._not_ours()

    def quit(self) -> None:
        raise self._not_ours()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _connection(self) -> socket.socket | None:
        return None if self._socket is None else self._socket.dup()

    def _not_ours(self) -> AttachError:
        return AttachError("your gdb holds the guest, which stays as it is")

"""QMP over a connection that somebody else in this process opened: drgn's, which serves no second client.

drgn gives no way to its socket, so it is looked for among the open files.  drgn waits for every answer before it asks
again, and asks nothing once its memory is read by us; so two may use one connection by turns.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from kvmtools.attach.monitor.host_process import is_qemu, pid_behind
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, GuestVanished

ANSWER_SECONDS = 60.0
_OPEN_FILES = Path("/proc/self/fd")


class BorrowedQmp(Monitor):
    """A QMP connection that has been greeted already.

    :param connection: a duplicate of the other's socket, which this owns
    """

    name = "drgn's QMP"

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection  # blocking, as the other expects it: that is a property of both descriptors
        self._rest = b""
        self._numbers = count(1)
        peer = connection.getpeername()
        self.address = peer if isinstance(peer, str) else f"{peer[0]}:{peer[1]}"

    def hmp(self, line: str) -> str:
        answer = self._execute("human-monitor-command", {"command-line": line})
        return str(answer).replace("\r\n", "\n")

    def again(self, seconds: float) -> Monitor:
        raise AttachError(f"{self.address} serves one client, and drgn is that")

    def close(self) -> None:
        """Give it back; the other's own descriptor stays open."""
        self._socket.close()

    def _connection(self) -> socket.socket:
        return self._socket.dup()

    def _execute(self, name: str, arguments: dict[str, str]) -> Any:
        number = f"kvmtools-{next(self._numbers)}"
        request = {"execute": name, "arguments": arguments, "id": number}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\r\n")
            for answer in self._answers():
                if answer.get("id") == number:
                    break
        except TimeoutError:
            raise AttachError(f"{self.address}: QEMU did not answer within {ANSWER_SECONDS:g} s") from None
        except OSError as error:
            raise self._vanished() from error
        if "error" in answer:
            raise AttachError(f"QEMU refused {name}: {answer['error'].get('desc')}")
        return answer["return"]

    def _answers(self) -> Iterator[dict[str, Any]]:
        """What comes, events included; the rest of a line of which drgn has read the beginning is passed over."""
        while True:
            line, end, rest = self._rest.partition(b"\n")
            if end:
                self._rest = rest
                with suppress(ValueError):
                    answer = json.loads(line)
                    if isinstance(answer, dict):
                        yield answer
                continue
            if not select.select([self._socket], [], [], ANSWER_SECONDS)[0]:
                raise AttachError(f"{self.address}: QEMU did not answer within {ANSWER_SECONDS:g} s")
            more = self._socket.recv(1 << 16)
            if not more:
                raise self._vanished()
            self._rest += more

    def _vanished(self) -> GuestVanished:
        return GuestVanished(f"the guest at {self.address} is gone: QEMU ended or closed its monitor")


def borrow() -> BorrowedQmp:
    """The connection to QEMU that this process has open.

    :raises AttachError: unless it is exactly one
    """
    connections = list(_connections())
    lead_to_qemu = [each for each in connections if _is_qemu(each)]
    chosen = lead_to_qemu or connections
    for each in connections:
        if len(chosen) != 1 or each is not chosen[0]:
            each.close()
    if len(chosen) != 1:
        raise AttachError(
            f"{len(chosen)} connections of this process may be the one to QEMU",
            hint="open one guest in a drgn session",
        )
    return BorrowedQmp(chosen[0])


def _connections() -> Iterator[socket.socket]:
    """A duplicate of every stream that leads somewhere else; descriptors of one socket count once."""
    seen: set[int] = set()
    for name in sorted(os.listdir(_OPEN_FILES), key=int):
        with suppress(OSError):
            status = os.stat(_OPEN_FILES / name)
            if not stat.S_ISSOCK(status.st_mode) or status.st_ino in seen:
                continue
            seen.add(status.st_ino)
            found = socket.socket(fileno=os.dup(int(name)))
            try:
                if found.type == socket.SOCK_STREAM and found.getpeername():
                    yield found
                    continue
            except OSError:
                pass
            found.close()


def _is_qemu(connection: socket.socket) -> bool:
    try:
        return is_qemu(pid_behind(connection))
    except (AttachError, OSError):
        return False

"""The human monitor's own socket: ``-monitor unix:PATH,server=on,wait=off``.

It is written for a terminal (QEMU ``util/readline.c``): every character that is sent comes back, with escape codes that
move the cursor; after each answer comes a prompt.
"""

from __future__ import annotations

import re
import select
import socket
import time
from contextlib import suppress

from kvmtools.attach.monitor.greeting import greeted
from kvmtools.attach.monitor.in_order import InOrder
from kvmtools.attach.monitor.monitor import Monitor, late
from kvmtools.errors import AttachError, GuestVanished

_PROMPT = b"(qemu) "
_PAUSE = 0.2  # seconds without another byte: a prompt, even in the middle of a line
_ESCAPES = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
_SECONDS = 60.0
_CHUNK = 1 << 16


class HumanMonitor(Monitor):
    """A connection to it.

    :param address: path of a unix socket, or ``host:port``; ``connection`` was made there
    :raises AttachError: if it is no human monitor after all
    """

    name = "the human monitor"

    def __init__(self, address: str, connection: socket.socket) -> None:
        self.address = address
        self._socket = connection
        self._closed = False
        self._late = False
        self._talk = InOrder(f"monitor {address}")
        try:
            self._ask(None)
        except BaseException:
            self.close()
            raise

    def hmp(self, line: str) -> str:
        if self._late:
            raise late(self.address)
        if self._closed:
            raise AttachError(f"{self.address}: this monitor connection is closed")
        # The echo of the line comes first: everything up to the first end of a line.
        answer = self._ask(line).partition(b"\r\n")[2]
        return answer.decode(errors="replace").replace("\r\n", "\n")

    def again(self, seconds: float) -> HumanMonitor:
        if self._late:
            self.close()  # QEMU serves one client at a time, and that is still us
        return HumanMonitor(self.address, greeted(self.address, seconds))

    def quit(self) -> None:
        with suppress(GuestVanished):  # it hangs up instead of an answer
            self.hmp("quit")

    def close(self) -> None:
        """Hang up; a second call, or a QEMU that is gone already, is no error."""
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._talk.close(_SECONDS)
        self._socket.close()

    def _connection(self) -> socket.socket:
        return self._socket.dup()

    def _is_at_prompt(self, answer: bytearray) -> bool:
        if answer.endswith(b"\n" + _PROMPT):
            return True
        return answer.endswith(_PROMPT) and not select.select([self._socket], [], [], _PAUSE)[0]

    def _ask(self, line: str | None) -> bytes:
        """What comes before the next prompt, after ``line`` was typed, if one is."""

        def talk() -> bytes:
            if self._late:
                raise late(self.address)
            deadline = time.monotonic() + _SECONDS
            answer = bytearray()
            try:
                if line is not None:
                    self._socket.sendall(line.encode() + b"\n")
                while not self._is_at_prompt(answer):
                    self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                    part = self._socket.recv(_CHUNK)
                    if not part:
                        raise ConnectionResetError
                    answer += part
            except TimeoutError:
                self._late = True  # the answer that comes next belongs to this question, not to the next one
                raise AttachError(
                    f"{self.address}: the human monitor shows no prompt within {_SECONDS:g} s"
                ) from None
            except OSError:
                raise GuestVanished(
                    f"the guest at {self.address} is gone: QEMU ended or closed its monitor"
                ) from None
            return _ESCAPES.sub(b"", answer.removesuffix(_PROMPT))

        try:
            return self._talk.do(talk, _SECONDS + 1)
        except TimeoutError:
            self._late = True
            raise AttachError(f"{self.address}: QEMU did not answer within {_SECONDS:g} s") from None

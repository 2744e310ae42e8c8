"""One connection to our init inside the guest: requests and replies out of a stream of bytes.

A request is one line.  The answer is any number of ``data LENGTH`` lines, each followed by that many raw bytes, and
then ``ok`` or ``err ERRNO WHAT``.  Whoever connects first sends a line-kill character and ``sync TOKEN``, and skips
everything before the echo of the token: so a client that died in the middle of a request or a reply costs nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from kvmtools.errors import AttachError, GuestVanished

_KILL_LINE = b"\x15"
_RECEIVE = 1 << 18


class Refused(AttachError):
    """The guest answered, and said no: the line is in order."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


class Line:
    """One connection: lines and blocks out of a stream of bytes."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise AttachError(
                f"the guest's agent cannot be reached at {path}: {error.strerror or error}",
                hint="is the guest running? kvmtools guest status",
            ) from error

    def close(self) -> None:
        self._socket.close()

    def timeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def synchronise(self) -> None:
        """Throw away what an earlier client left behind, in both directions.

        :raises TimeoutError: if the guest does not answer
        """
        token = secrets.token_hex(8).encode()
        self._send(_KILL_LINE + b"sync " + token + b"\n")
        mark = b"data %d\n%sok\n" % (len(token), token)
        while (at := self._buffer.find(mark)) < 0:
            del self._buffer[: -len(mark)]
            self._receive()
        del self._buffer[: at + len(mark)]

    def ask(self, request: str) -> bytes:
        try:
            self._send(request.encode() + b"\n")
            return b"".join(self._blocks(request))
        except TimeoutError:
            raise stuck(self._path) from None

    def _blocks(self, request: str) -> Iterator[bytes]:
        while True:
            word, _, rest = self._take_line().partition(b" ")
            if word == b"ok":
                return
            if word == b"data" and rest.isdigit():
                yield self._take(int(rest))
                continue
            if word == b"err":
                number, _, what = rest.decode(errors="replace").partition(" ")
                reason = os.strerror(int(number)) if number.isdigit() else number
                message = f"the guest's agent refused '{request}': {what}: {reason}"
                raise Refused(message, int(number) if number.isdigit() else 0)
            raise AttachError(
                f"the guest's agent answered '{request}' with {bytes(word[:40])!r}", hint="is it ours?"
            )

    def _take_line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._receive()
        block = bytes(self._buffer[:length])
        del self._buffer[:length]
        return block

    def _send(self, data: bytes) -> None:
        """:raises TimeoutError: if the guest takes nothing"""
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._gone() from error

    def _receive(self) -> None:
        """:raises TimeoutError: if the guest says nothing"""
        try:
            received = self._socket.recv(_RECEIVE)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._gone() from error
        if not received:
            raise self._gone()
        self._buffer += received

    def _gone(self) -> GuestVanished:
        return GuestVanished(
            f"the guest hung up: {self._path}", hint="its QEMU ended; see kvmtools guest status"
        )


def stuck(path: Path) -> AttachError:
    return AttachError(
        f"the guest's agent says nothing on {path}",
        hint="is the guest paused, still booting, or another client connected?",
    )

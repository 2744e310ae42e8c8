"""The packets of gdb's remote protocol, as much of it as a question to QEMU takes.

Source: gdb's manual, appendix "GDB Remote Serial Protocol"; QEMU ``gdbstub/gdbstub.c``, ``gdb_read_byte``.
"""

from __future__ import annotations

import re
import select
import socket
import time
from contextlib import suppress

INTERRUPT = b"\x03"
"""Stops a guest that runs: QEMU takes any byte for that, and drops it."""
ACKNOWLEDGED = b"+"
_PACKET = re.compile(rb"\$([^#]*)#[0-9a-fA-F]{2}", re.DOTALL)
_ESCAPED = re.compile(rb"\}(.)", re.DOTALL)
_REPEATED = re.compile(rb"(.)\*(.)", re.DOTALL)
_CHUNK = 1 << 17


def packet(payload: bytes) -> bytes:
    """``$payload#checksum``."""
    return b"$%b#%02x" % (payload, sum(payload) & 0xFF)


def unpacked(body: bytes) -> bytes:
    """What a packet says, its run lengths and escapes resolved.

    ``0*"`` is ``0000``: the character behind the star tells how often the one before it comes once more, plus 29.
    """
    body = _REPEATED.sub(lambda found: found[1] * (found[2][0] - 28), body)
    return _ESCAPED.sub(lambda found: bytes([found[1][0] ^ 0x20]), body)


class PacketStream:
    """The packets that come over a connection, one after another; acknowledgements are left out."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        :raises OSError: if the other end is gone
        """
        self._connection.sendall(data)

    def next(self, deadline: float) -> bytes:
        """The next packet.

        :param deadline: on the monotonic clock
        :raises TimeoutError: if none comes
        :raises OSError: if the other end is gone
        """
        searched = 0
        while not (found := _PACKET.search(self._received, searched)):
            # A long packet is looked at once: nothing before its end needs to be searched again.
            start = self._received.find(b"$")
            searched = 0 if start < 0 else start
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part = self._connection.recv(_CHUNK)
            if not part:
                raise ConnectionResetError
            self._received += part
        body = bytes(found[1])
        del self._received[: found.end()]
        return unpacked(body)

    def first_byte(self, seconds: float) -> bytes:
        """What the other end says first; nothing if it is silent, or hangs up."""
        with suppress(OSError):
            if select.select([self._connection], [], [], seconds)[0]:
                return self._connection.recv(1, socket.MSG_PEEK)
        return b""

    def drain(self) -> bool:
        """Drop what came unasked; whether anything did."""
        while select.select([self._connection], [], [], 0)[0]:
            part = self._connection.recv(_CHUNK)
            if not part:
                raise ConnectionResetError
            self._received += part
        found = bool(self._received)
        self._received.clear()
        return found

    def duplicate(self) -> socket.socket:
        """The connection once more, for the caller to close."""
        return self._connection.dup()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

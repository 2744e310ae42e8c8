"""Our own interpreter as a child of gdb: it does the work, and asks QEMU through gdb.

The user's gdb holds the only connection to QEMU's stub, so every question to QEMU goes through its ``monitor``.  Both
sides write one JSON object a line.  Gdb asks ``{"request": ..., ...}``; until the answer ``{"code": ..., ...}`` comes,
the child may ask ``{"monitor": line}`` and is answered ``{"answer": text}`` or ``{"refused": reason}``.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from typing import Any

import gdb

from . import stub

SERVICE = "kvmtools.cli.gdb_service"
_ATTENTION = 0.2  # seconds: so soon is Ctrl-C noticed
_FAREWELL = 2.0  # seconds that it has to end by itself


class Companion:
    """Keeps one child, with the guest's kernel opened, for as long as gdb keeps its connection to this QEMU.

    :param interpreter: the Python that kvmtools is installed for
    """

    def __init__(self, interpreter: str) -> None:
        self._interpreter = interpreter
        self._child: _Child | None = None
        self._connection = 0

    def ask(self, request: str, **more: Any) -> dict[str, Any]:
        """The child's answer: ``code`` as kvmtools exits with, ``out`` and ``err`` as it prints, and perhaps a
        ``value``.

        :raises gdb.GdbError: if there is no guest to ask about, or the child ends
        """
        connection = stub.connection()
        if self._child is not None and connection.num != self._connection:
            self._part()
        if self._child is None:
            self._connection = connection.num
            self._child = _Child(self._interpreter, connection.details or "")
        try:
            return self._child.answer({"request": request, "symbols": stub.symbol_file(), **more})
        except (OSError, EOFError):
            raise gdb.GdbError(f"kvmtools ended: {self._part()}") from None
        except BaseException:  # Ctrl-C: what it says from now on would be taken for the next answer
            self._part()
            raise

    def _part(self) -> str:
        """Let the child go; what it said last."""
        child, self._child = self._child, None
        return "" if child is None else child.end()


class _Child:
    """One process.

    :param address: where gdb has reached QEMU
    :raises gdb.GdbError: if it cannot be started
    """

    def __init__(self, interpreter: str, address: str) -> None:
        self._channel, theirs = socket.socketpair()
        self._received = b""
        to_qemu = stub.to_qemu()
        passed = [one.fileno() for one in (theirs, to_qemu) if one is not None]
        try:
            self._process = subprocess.Popen(
                [interpreter, "-P", "-m", SERVICE, address, *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=passed,
                # PYTHONHOME, if it is set, is for the Python inside gdb.
                env={name: value for name, value in os.environ.items() if name != "PYTHONHOME"},
                start_new_session=True,  # Ctrl-C is for gdb, which ends it
            )
        except OSError as error:
            self._channel.close()
            raise gdb.GdbError(f"cannot start {interpreter}: {error.strerror}") from None
        finally:
            theirs.close()
            if to_qemu is not None:
                to_qemu.close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What it answers, once its own questions are answered.

        :raises OSError: if it has ended; so does :exc:`EOFError`
        """
        self._send(request)
        while "monitor" in (said := self._receive()):
            try:
                self._send({"answer": stub.monitor(said["monitor"])})
            except (gdb.error, UnicodeError) as error:
                self._send({"refused": " ".join(str(error).split())})
        return said

    def end(self) -> str:
        """Hang up, and see that it ends; the last line that it complained with."""
        self._channel.close()
        try:
            _, said = self._process.communicate(timeout=_FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, said = self._process.communicate()
        lines = said.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it does not say why")

    def _send(self, message: dict[str, Any]) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            if select.select([self._channel], [], [], _ATTENTION)[0]:
                chunk = self._channel.recv(1 << 20)
                if not chunk:
                    raise EOFError
                self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

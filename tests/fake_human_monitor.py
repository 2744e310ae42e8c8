"""A human monitor's socket as QEMU serves it: characters come back, redrawn with escape codes, then the answer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from fake_server import FakeServer

GREETING = b"QEMU 7.2.22 monitor - type 'help' for more information\r\n"
PROMPT = b"(qemu) "


class FakeHumanMonitor(FakeServer):
    """Serves one client after the other at ``path``; a context manager.

    :ivar lines: what it answers; a callable is asked
    :ivar asked: the lines that were typed
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.running = True
        self.asked: list[str] = []
        self.lines: dict[str, str | Callable[[], str]] = {
            "info status": lambda: f"VM status: {'running' if self.running else 'paused'}\n",
            "info version": "7.2.22Debian 1:7.2\n",
            "info cpus": "* CPU #0: thread_id=1\n",
            "stop": lambda: self._set(False),
            "cont": lambda: self._set(True),
        }

    def _set(self, running: bool) -> str:
        self.running = running
        return ""

    def attend(self, client: socket.socket) -> None:
        client.sendall(GREETING + PROMPT)
        line = b""
        while data := client.recv(4096):
            for byte in data:
                if byte != ord("\n"):
                    client.sendall(b"\x1b[D" * len(line) + (line := line + bytes([byte])) + b"\x1b[K")
                    continue
                typed, line = line.decode(), b""
                self.asked.append(typed)
                answer = self.lines.get(typed, f"unknown command: '{typed}'\n")
                text = answer if isinstance(answer, str) else answer()
                client.sendall(b"\r\n" + text.replace("\n", "\r\n").encode())
                client.sendall(PROMPT)

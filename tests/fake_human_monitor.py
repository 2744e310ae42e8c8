"""A human monitor's socket as QEMU serves it: characters come back, redrawn with escape codes, then the answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

GREETING = b"QEMU 7.2.22 monitor - type 'help' for more information\r\n"
PROMPT = b"(qemu) "


class FakeHumanMonitor:
    """Serves one client after the other at ``path``; a context manager.

    :ivar lines: what it answers; a callable is asked
    :ivar asked: the lines that were typed
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running = True
        self.asked: list[str] = []
        self.lines: dict[str, str | Callable[[], str]] = {
            "info status": lambda: f"VM status: {'running' if self.running else 'paused'}\n",
            "info version": "7.2.22Debian 1:7.2\n",
            "info cpus": "* CPU #0: thread_id=1\n",
            "stop": lambda: self._set(False),
            "cont": lambda: self._set(True),
        }
        self._client: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def die(self) -> None:
        for end in (self._listener, self._client):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _set(self, running: bool) -> str:
        self.running = running
        return ""

    def _serve(self) -> None:
        with self._listener, suppress(OSError):
            while True:
                self._client, _ = self._listener.accept()
                with self._client, suppress(ConnectionError):
                    self._client.sendall(GREETING + PROMPT)
                    self._converse(self._client)

    def _converse(self, client: socket.socket) -> None:
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

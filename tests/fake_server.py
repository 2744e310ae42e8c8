"""What the fake ends of QEMU have in common: a socket, a thread that serves it, and an end."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class FakeServer:
    """Serves one client after the other at ``path``, each by :meth:`attend`; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._client: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def attend(self, client: socket.socket) -> None:
        """Converse with a client until it leaves."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def die(self) -> None:
        """What a killed QEMU looks like from outside."""
        for end in (self._listener, self._client):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """End the connection that there is; the next client is served."""
        assert self._client is not None
        self._client.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with self._listener, suppress(OSError):
            while True:
                self._client, _ = self._listener.accept()
                with self._client, suppress(OSError):
                    self.attend(self._client)

#!/usr/bin/env python3
"""Stands in for qemu-system-i386: a process with our arguments that speaks as much QMP as a life cycle needs.

What it is to do instead of a healthy life comes in the environment: ``FAKE_QEMU_SAYS`` goes to stderr, with
exit status 1; ``FAKE_QEMU_CONSOLE`` goes to the console file; ``FAKE_QEMU_MUTE`` keeps it from listening;
``FAKE_QEMU_HMP`` is what its human monitor answers to everything;
``FAKE_QEMU_DEAF`` makes it ignore ``quit`` and SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

GREETING = {
    "QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}
}
ANSWERS: dict[str, Any] = {
    "qmp_capabilities": {},
    "query-status": {"status": "running", "running": True, "singlestep": False},
    "query-cpus-fast": [{"cpu-index": 0, "thread-id": 4711, "target": "i386"}],
    "quit": {},
    "human-monitor-command": os.environ.get("FAKE_QEMU_HMP", ""),
}


def path_of(chardev: str) -> str:
    option = next(word for word in sys.argv if f"id={chardev}," in word)
    return next(part for part in option.split(",") if part.startswith("path=")).removeprefix("path=")


def requests(client: socket.socket) -> Iterator[dict[str, Any]]:
    """JSON objects as they come: nothing but their braces separates them."""
    received = ""
    while data := client.recv(4096):
        received += data.decode()
        with contextlib.suppress(json.JSONDecodeError):
            request, end = json.JSONDecoder().raw_decode(received)
            received = received[end:].lstrip()
            yield request


def serve(client: socket.socket) -> None:
    client.sendall(json.dumps(GREETING).encode() + b"\r\n")
    for request in requests(client):
        name = request["execute"]
        # As QEMU does it: a request without an id is answered without one.
        identity = {key: request[key] for key in ("id",) if key in request}
        client.sendall(json.dumps({"return": ANSWERS[name], **identity}).encode() + b"\r\n")
        if name == "quit" and "FAKE_QEMU_DEAF" not in os.environ:
            sys.exit()


def main() -> None:
    if "FAKE_QEMU_SAYS" in os.environ:
        sys.exit(os.environ["FAKE_QEMU_SAYS"])
    if "FAKE_QEMU_DEAF" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(path_of("console"), "w") as console:
        console.write(os.environ.get("FAKE_QEMU_CONSOLE", ""))
    if "FAKE_QEMU_MUTE" in os.environ:
        signal.pause()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path_of("qmp"))
    listener.listen()
    while True:
        client, _ = listener.accept()
        with client, contextlib.suppress(ConnectionError):
            serve(client)


main()

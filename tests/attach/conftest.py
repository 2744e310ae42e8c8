"""``fake_qmp``: a QMP server that is a guest only as far as tests need.  ``core_file``: makes ELF cores."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from core_file import CoreFile
from fake_server import FakeServer

VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
GREETING = {"QMP": {"version": VERSION, "capabilities": []}}
REGISTERS = """
CPU#0
EIP=cbaa752b EFL=00200246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CR0=80050033 CR2=08072480 CR3=01192000 CR4=003506b0
EFER=0000000000000800
"""
Handler = Callable[["FakeQmp", dict[str, Any]], Any]


class FakeQmp(FakeServer):
    """Serves one client at a time at ``path``, as QEMU does; a context manager.

    :ivar running: the guest's run state, obeying ``stop`` and ``cont``
    :ivar memory: guest-physical address to bytes, the RAM that ``xp`` and ``pmemsave`` show
    :ivar mtree: what ``info mtree -f`` answers
    :ivar chardevs: label and file name of its character devices
    :ivar lent: the ids of the files that it was lent and has not given back
    :ivar seen: the names of the commands, in order
    :ivar handlers: commands to answer otherwise; a handler may raise :class:`FakeQmp.Refused` or :meth:`die`
    """

    class Refused(Exception):
        """QEMU's answer is an error."""

    def __init__(self, path: Path, *, mute: bool = False, greeting: bytes | None = None) -> None:
        super().__init__(path)
        self.running = True
        self.memory: dict[int, bytearray] = {}
        self.mtree = ""
        self.chardevs: list[tuple[str, str]] = []
        self.seen: list[str] = []
        self.handlers: dict[str, Handler] = {}
        self.lent: set[int] = set()
        self._mute = mute
        self._greeting = json.dumps(GREETING).encode() + b"\r\n" if greeting is None else greeting
        self._received: list[int] = []

    def read(self, address: int, size: int) -> bytes:
        """RAM as the guest has it; zeros where no test put anything."""
        data = bytearray(size)
        for start, block in self.memory.items():
            for offset in range(max(start, address), min(start + len(block), address + size)):
                data[offset - address] = block[offset - start]
        return bytes(data)

    def attend(self, client: socket.socket) -> None:
        try:
            self._converse(client)
        finally:
            for descriptor in self._received:
                os.close(descriptor)
            self._received.clear()

    def _converse(self, client: socket.socket) -> None:
        if not self._mute:
            client.sendall(self._greeting)
        received = ""
        while True:
            data, descriptors, _, _ = socket.recv_fds(client, 65536, 4)
            if not data:
                return
            self._received += descriptors
            received = (received + data.decode()).lstrip()
            while received:
                try:
                    request, end = json.JSONDecoder().raw_decode(received)
                except json.JSONDecodeError:
                    break
                received = received[end:].lstrip()
                answer = {**self._answer(request), "id": request.get("id")}
                client.sendall(json.dumps(answer).encode() + b"\r\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name, arguments = request["execute"], request.get("arguments", {})
        self.seen.append(name)
        handler = self.handlers.get(name) or _HANDLERS.get(name)
        try:
            if handler is None:
                raise self.Refused(f"The command {name} has not been found")
            return {"return": handler(self, arguments)}
        except self.Refused as error:
            return {"error": {"class": "GenericError", "desc": str(error)}}

    def _status(self, _: dict[str, Any]) -> Any:
        return {"status": "running" if self.running else "paused", "running": self.running}

    def _set_running(self, running: bool) -> dict[str, Any]:
        self.running = running
        return {}

    def _add_fd(self, _: dict[str, Any]) -> Any:
        if not self._received:
            raise self.Refused("No file descriptor supplied via SCM_RIGHTS")
        self.lent.add(len(self.lent))
        return {"fdset-id": len(self.lent) - 1, "fd": self._received[-1]}

    def _remove_fd(self, arguments: dict[str, Any]) -> Any:
        self.lent.remove(arguments["fdset-id"])
        return {}

    def _pmemsave(self, arguments: dict[str, Any]) -> Any:
        Path(arguments["filename"]).write_bytes(self.read(arguments["val"], arguments["size"]))
        return {}

    def _hmp(self, arguments: dict[str, Any]) -> Any:
        line = arguments["command-line"]
        if line == "info mtree -f":
            return self.mtree
        if line == "info registers -a":
            return REGISTERS.replace("\n", "\r\n")
        if found := re.fullmatch(r"xp /(\d+)xg (0x[0-9a-f]+)", line):
            return self._xp(int(found[1]), int(found[2], 16))
        if "hmp" in self.handlers:
            return self.handlers["hmp"](self, arguments)
        return f"unknown command: '{line}'\r\n"

    def _xp(self, count: int, address: int) -> str:
        data = self.read(address, count * 8)
        words = [f"0x{int.from_bytes(data[i : i + 8], 'little'):016x}" for i in range(0, len(data), 8)]
        return "".join(
            f"{address + i * 8:016x}: {' '.join(words[i : i + 2])}\r\n" for i in range(0, len(words), 2)
        )


_HANDLERS: dict[str, Handler] = {
    "qmp_capabilities": lambda fake, _: {},
    "query-status": FakeQmp._status,
    "stop": lambda fake, _: fake._set_running(False),
    "cont": lambda fake, _: fake._set_running(True),
    "query-chardev": lambda fake, _: [{"label": one, "filename": name} for one, name in fake.chardevs],
    "query-memdev": lambda fake, _: [],
    "query-version": lambda fake, _: VERSION,
    "query-target": lambda fake, _: {"arch": "i386"},
    "query-memory-size-summary": lambda fake, _: {"base-memory": 128 << 20, "plugged-memory": 0},
    "query-cpus-fast": lambda fake, _: [{"cpu-index": 0}],
    "add-fd": FakeQmp._add_fd,
    "remove-fd": FakeQmp._remove_fd,
    "pmemsave": FakeQmp._pmemsave,
    "human-monitor-command": FakeQmp._hmp,
}


@pytest.fixture
def start_qmp(tmp_path: Path) -> Iterator[Callable[..., FakeQmp]]:
    """Starts a :class:`FakeQmp`; every one of them ends with the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(FakeQmp(tmp_path / "qmp.sock", **options))


@pytest.fixture
def fake_qmp(start_qmp: Callable[..., FakeQmp]) -> FakeQmp:
    return start_qmp()


@pytest.fixture
def core_file(tmp_path: Path) -> CoreFile:
    return CoreFile(tmp_path / "core")

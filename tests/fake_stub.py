"""A gdbstub that behaves as QEMU's does where it matters, byte by byte (QEMU ``gdb_read_byte``, ``gdb_chr_event``)."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

from fake_server import FakeServer

from kvmtools.attach.monitor.packets import packet

STOPPED = b"T02thread:01;"
SUPPORTED = b"PacketSize=1000;qXfer:features:read+;vContSupported+;multiprocess+"
XML = {
    "target.xml": '<target><architecture>i386</architecture><xi:include href="core.xml"/></target>',
    "core.xml": '<reg name="eax" bitsize="32" regnum="0"/><!--<reg name="gone" bitsize="32"/>-->'
    '<reg bitsize="32" name="eip"/><reg name="cr0"/><reg name="cr3" regnum="9"/><reg name="cr4"/><reg name="efer"/>',
}
REGISTERS = {1: 0xC0001000, 2: 0x80050033, 9: 0x1192000, 10: 0x3506B0, 11: 0x800}


class FakeGdbstub(FakeServer):
    """Serves one client after the other at ``path``; a context manager.

    :ivar running: the guest's run state; ``state`` is QEMU's word for it while it stands
    :ivar version: the QEMU that it is: before 8.1 it tells of the stop that a connection is; before 8.1 and again from
        10.0 on of the one that an interrupt is
    :ivar lines: what the human monitor answers; a callable is asked
    :ivar ram: the guest's memory from 0, which ``m`` packets show modulo its size
    :ivar resumed: how often the guest was let run
    """

    def __init__(self, path: Path, *, version: str = "7.2.22", running: bool = True) -> None:
        super().__init__(path)
        self.running = running
        self.state = "running" if running else "paused"
        self.tells = version.startswith("7.")
        self.allowed = self.tells
        self.silent = version.startswith("8.")
        self.ram = bytes(range(256)) * 64
        self.physical = False
        self.resumed = 0
        self.asked: list[str] = []
        self.clients = 0
        self.lines: dict[str, str | Callable[[], str]] = {
            "info status": lambda: (
                "VM status: "
                + {"running": "running", "paused": "paused"}.get(self.state, f"paused ({self.state})")
                + "\r\n"
            ),
            "info version": f"{version}Debian\r\n",
            "info cpus": "* CPU #0: thread_id=1\r\n",
            "stop": lambda: self._set(False) or "",
            "cont": lambda: self._set(True) or "",
        }
        self._last = False

    def breakpoint_hit(self) -> None:
        """The guest stops by itself."""
        self._stop("debug")

    def attend(self, client: socket.socket) -> None:
        self.clients += 1
        self._last = False
        self._stop("paused")
        line: bytearray | None = None
        while data := client.recv(4096):
            for byte in data:
                if self._last:
                    self._last = byte not in b"+$"
                    if byte != ord("$"):
                        continue
                if self.running:
                    self.allowed = not self.silent
                    self._stop("paused")
                    self.allowed = self.tells
                elif byte == ord("$"):
                    line = bytearray()
                elif line is not None:
                    line.append(byte)
                    if line[-3:-2] == b"#":
                        client.sendall(b"+")
                        self._packet(bytes(line[:-3]))
                        line = None

    def _packet(self, text: bytes) -> None:
        if text.startswith(b"qSupported:"):
            self._send(SUPPORTED)
        elif text.startswith(b"qRcmd,"):
            self._monitor(bytes.fromhex(text[6:].decode()).decode())
        elif text == b"qqemu.PhyMemMode":
            self._send(b"%d" % self.physical)
        elif text.startswith(b"Qqemu.PhyMemMode:"):
            self.physical = text.endswith(b"1")
            self._send(b"OK")
        elif found := re.fullmatch(rb"m([0-9a-f]+),([0-9a-f]+)", text):
            at, size = int(found[1], 16) % len(self.ram), int(found[2], 16)
            self._send(self.ram[at : at + size].hex().encode() if self.physical and size <= 2048 else b"E14")
        elif found := re.fullmatch(rb"qXfer:features:read:(.+):([0-9a-f]+),([0-9a-f]+)", text):
            rest = XML[found[1].decode()][int(found[2], 16) :].encode()
            size = min(int(found[3], 16), 100)
            self._send((b"m" if len(rest) > size else b"l") + rest[:size])
        elif found := re.fullmatch(rb"p([0-9a-f]+)", text):
            self._send(REGISTERS[int(found[1], 16)].to_bytes(4, "little").hex().encode())
        elif text in (b"D", b"D;1"):
            self._set(True)
            self._send(b"OK")
        else:
            self._send(
                {b"qfThreadInfo": b"mp01.02", b"qsThreadInfo": b"l", b"Hgp01.02": b"OK"}.get(text, b"")
            )

    def _monitor(self, line: str) -> None:
        self.asked.append(line)
        answer = self.lines.get(line, f"unknown command: '{line}'\r\n")
        text = answer if isinstance(answer, str) else answer()
        for start in range(0, len(text), 20):
            self._send(b"O" + text[start : start + 20].encode().hex().encode())
        self._send(b"OK")

    def _set(self, running: bool) -> None:
        if running:
            self.resumed += not self.running
            self.running, self.state = True, "running"
        else:
            self._stop("paused")

    def _stop(self, state: str) -> None:
        if self.running:
            self.running, self.state = False, state
            if self.allowed:
                self._send(STOPPED)

    def _send(self, payload: bytes) -> None:
        assert self._client is not None
        self._client.sendall(packet(payload))
        self._last = True

"""The released drgn, run as a person runs it: one command, or a session on a terminal; and cores to run it on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.record import Guest

DRGN = Path(sys.executable).with_name("drgn")
PROMPT = ">>> "
_SILENCE = 120.0
_BLOCK = 1 << 20


def run_drgn(
    *words: str | Path, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``drgn WORDS``; without ``stdin`` it has none."""
    return subprocess.run(
        [str(DRGN), *map(str, words)],
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=_SILENCE,
        env={**os.environ, **environment},
        check=False,
    )


def live(guest: Guest) -> tuple[str, ...]:
    """The options by which drgn opens a guest of ours."""
    return "--qemu", str(guest.drgn_qmp), "-s", str(guest.vmlinux)


class Terminal:
    """A drgn prompt on a pseudo-terminal; a context manager that ends it as Ctrl-D does."""

    def __init__(self, *words: str | Path) -> None:
        self._words = [str(DRGN), *map(str, words)]

    def __enter__(self) -> Terminal:
        ours, theirs = pty.openpty()
        environment = {
            **os.environ,
            "TERM": "dumb",
            "PYTHON_BASIC_REPL": "1",
            "XDG_STATE_HOME": "/nonexistent",
        }
        self._process = subprocess.Popen(
            self._words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self._terminal = ours
        self.banner = self._until_prompt()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.write(self._terminal, b"\x04")
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._terminal)

    def type(self, line: str) -> str:
        """What is shown for a line, without its echo."""
        os.write(self._terminal, line.encode() + b"\n")
        return self._until_prompt().partition("\n")[2]

    def _until_prompt(self) -> str:
        shown = b""
        deadline = time.monotonic() + _SILENCE
        while not shown.endswith(PROMPT.encode()):
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, shown
            shown += os.read(self._terminal, 1 << 16)
        text = re.sub(r"\x1b\[\??[0-9;]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n")
        return text.removesuffix(PROMPT)


def dump(monitor: QmpMonitor, path: Path) -> None:
    """Have QEMU dump its guest's memory to ``path``: through a pipe, for blocks of zeros are left out of the file.

    QEMU opens our end itself: one that is lent to it stays open as long as the guest is stopped.
    """
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _BLOCK)
    with os.fdopen(reading, "rb") as pipe, path.open("wb") as file:
        try:
            end = f"/proc/{os.getpid()}/fd/{writing}"
            monitor.command("dump-guest-memory", paging=False, detach=True, protocol=f"file:{end}")
        finally:
            os.close(writing)
        _copy(pipe, file)
    while (status := monitor.command("query-dump")["status"]) == "active":
        time.sleep(0.01)
    assert status == "completed"


def _copy(pipe: BinaryIO, file: BinaryIO) -> None:
    zeros, size = bytes(_BLOCK), 0
    while block := pipe.read(_BLOCK):
        size += len(block)
        if block == zeros:
            file.seek(size)
        else:
            file.write(block)
    file.truncate(size)

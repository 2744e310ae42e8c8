"""A gdb as a person starts it: on a batch file, or at a terminal."""

from __future__ import annotations

import atexit
import os
import pty
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvmtools.cli.gdb_script import script

PROMPT = "(gdb) "
INTERRUPT = "\x03"
"""Ctrl-C."""
MARK = "-- next"
_INDEX = tempfile.mkdtemp(prefix="kvmtools-test-gdb-")
atexit.register(shutil.rmtree, _INDEX, ignore_errors=True)
QUICKLY = (f"set index-cache directory {_INDEX}", "set index-cache enabled on")
"""Gdb reads a vmlinux once, and then what it has written of it: that takes a twentieth of the time."""


def gdb_words(vmlinux: Path | None, address: str, *more: str) -> list[str]:
    """The command line; the connection first, so that what follows finds it."""
    return [*gdb_on(vmlinux), "-ex", f"target remote {address}", "-ex", f"source {script()}", *more]


def gdb_on(vmlinux: Path | None) -> list[str]:
    """A gdb that is not connected yet."""
    symbols = [] if vmlinux is None else [str(vmlinux)]
    return ["gdb", "-nx", "-q", *(word for command in QUICKLY for word in ("-iex", command)), *symbols]


@dataclass(frozen=True)
class Batch:
    """What a batch file came to."""

    code: int
    shown: list[str]
    """By command."""
    complaints: str

    def last(self) -> str:
        """The last line of complaint."""
        return self.complaints.rstrip("\n").rpartition("\n")[2]


def batch(
    folder: Path, vmlinux: Path | None, address: str, *commands: str, before: tuple[str, ...] = ()
) -> Batch:
    """Run the commands of a file as ``gdb -batch -x`` does; it ends at the first that fails.

    :param before: commands ahead of the connection
    """
    file = folder / "commands.gdb"
    file.write_text("".join(f"echo {MARK}\\n\n{command}\n" for command in ("set pagination off", *commands)))
    words = gdb_words(vmlinux, address, "-x", str(file))
    ahead = [word for command in before for word in ("-ex", command)]
    words[1:1] = ["-batch", *ahead]
    done = subprocess.run(
        words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False
    )
    said = done.stdout.partition("[Inferior 1 ")[0]
    shown = [part.strip("\n") for part in said.split(f"{MARK}\n")[2:]]
    return Batch(done.returncode, shown, done.stderr)


class Terminal:
    """What a person at a terminal types and sees."""

    def __init__(
        self, words: list[str], folder: Path | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *words],  # so that Ctrl-C is a signal
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env={**environment, "TERM": "dumb", "INPUTRC": os.devnull},
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, wanted: str, seconds: float = 30) -> str:
        """What is shown up to ``wanted``; what follows is left for the next call."""
        seen, limit = b"", time.monotonic() + seconds
        while not seen.endswith(wanted.encode()):
            ready, _, _ = select.select([self._ours], [], [], max(0.0, limit - time.monotonic()))
            assert ready, seen
            seen += os.read(self._ours, 1)
        return seen.decode().replace("\r\n", "\n")

    def say(self, command: str) -> str:
        """What a command shows."""
        self.type(f"{command}\n")
        return self.until(PROMPT).removesuffix(PROMPT).partition("\n")[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(words: list[str]) -> Iterator[Terminal]:
    """A gdb at a terminal, at its first prompt."""
    opened = Terminal(words)
    try:
        opened.until(PROMPT)
        yield opened
    finally:
        opened.close()


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

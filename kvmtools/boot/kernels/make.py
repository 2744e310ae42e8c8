"""Running make: every line into a log, the gist to the user, and nothing left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from kvmtools.boot.kernels.toolchain import environment
from kvmtools.errors import BuildError

# kbuild's short form: what it does, perhaps [M], and to which file.
_STEP = re.compile(r"^  ([A-Z]+[A-Z0-9]*)(?: \[M\])?\s+(\S+)$")
_OBJECTS = {"CC", "AS", "HOSTCC"}
_COMPLAINT = re.compile(r"error:|undefined reference|No space left|Killed|\*\*\* ")
_BETWEEN_REPORTS = 1.0  # seconds


@dataclass
class Make:
    """One kernel's build: the words of its command line, its log, and how far it is.

    :param title: how progress is headed, the kernel's name
    :param keep_open: a file descriptor that make and its children inherit (the cache entry's lock)
    """

    title: str
    tree: Path
    output: Path
    log: IO[str]
    keep_open: int
    progress: Callable[[str], None]
    jobs: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    objects: int = 0
    _started: float = field(default_factory=time.monotonic)
    _reported: float = 0.0

    def run(self, *words: str) -> None:
        """``make ARCH=i386 O=… WORDS`` until it ends.

        :raises BuildError: if it fails; the message has its first complaint, the hint the log
        """
        command = ["make", "-C", str(self.tree), f"O={self.output}", "ARCH=i386", f"-j{self.jobs}", *words]
        print("+", *command, file=self.log, flush=True)
        complaint = ""
        # A session of its own: Ctrl-C reaches only us, and we end the whole group.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment(),
            start_new_session=True,
            pass_fds=(self.keep_open,),
        )
        assert process.stdout is not None
        try:
            with process.stdout as lines:
                for line in lines:
                    self.log.write(line)
                    complaint = complaint or (line.strip() if _COMPLAINT.search(line) else "")
                    self._report(line)
            status = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status:
            self.log.flush()
            raise BuildError(
                f"building {self.title} failed: {complaint or f'make ended with status {status}'}",
                hint=f"the log is {self.log.name}",
            )

    def _report(self, line: str) -> None:
        step = _STEP.match(line)
        if step is None:
            return
        self.objects += step[1] in _OBJECTS
        now = time.monotonic()
        if now - self._reported >= _BETWEEN_REPORTS:
            self._reported = now
            minutes, seconds = divmod(int(now - self._started), 60)
            self.progress(f"{self.title}: {minutes}:{seconds:02}, {self.objects} files compiled, {step[2]}")

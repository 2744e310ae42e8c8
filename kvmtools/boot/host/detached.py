"""A process that outlives us, and is recognised again later.

A pid alone is a number that gets recycled; with the start time from ``/proc/PID/stat`` (field 22, clock ticks
since the host booted, proc(5)) it names one process.  Signals go through a pidfd that was checked against the
start time, so that they cannot reach another process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvmtools.boot.host.interrupts import ENDING
from kvmtools.errors import AttachError

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_KILL_SECONDS = 10.0  # that a process which is killed may take to free its memory


def start_ticks(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since the host booted; ``None`` if no such process lives."""
    # Our own dead child stays in /proc until somebody asks for its exit status.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        state, started = _state_and_start(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else started


def _state_and_start(pid: int) -> tuple[str, int]:
    text = Path(f"/proc/{pid}/stat").read_text()
    # The second field is the program's name in brackets, and may itself hold blanks and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that got ``pid`` at tick ``started`` still runs."""
    return start_ticks(pid) == started


def uptime_seconds(started: int) -> float:
    """Seconds since clock tick ``started``."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / TICKS_PER_SECOND


def spawn_detached(command: Sequence[str], log: Path) -> tuple[int, int]:
    """Start ``command`` in a session of its own, output appended to ``log``; return its pid and start ticks.

    It has no terminal, so neither Ctrl-C nor a closed window reaches it.

    :raises FileNotFoundError: if there is no such program
    """
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    output = (os.POSIX_SPAWN_OPEN, 1, os.fspath(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    errors = (os.POSIX_SPAWN_DUP2, 1, 2)
    pid = os.posix_spawnp(
        command[0],
        list(command),
        os.environ,
        file_actions=[null, output, errors],
        setsid=True,
        setsigmask=(),
        setsigdef=(*ENDING, signal.SIGPIPE),
    )
    try:
        # A child that has already ended keeps its entry until it is waited for: this cannot miss it.
        return pid, _state_and_start(pid)[1]
    except BaseException:
        # No descriptor is left to read it with, say; unknown to anybody, it must not run on.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


@contextmanager
def _pidfd(pid: int, started: int) -> Iterator[int | None]:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd if is_alive(pid, started) else None
    finally:
        os.close(fd)


def send(pid: int, started: int, number: signal.Signals) -> bool:
    """Send one signal; whether the process was there to get it."""
    with _pidfd(pid, started) as fd:
        if fd is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)
        return True


def wait_for_end(pid: int, started: int, seconds: float) -> bool:
    """Wait until the process is gone, at most ``seconds``; whether it is."""
    with _pidfd(pid, started) as fd:
        if fd is None:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(0, int(seconds * 1000)))
    return not is_alive(pid, started)


def end(pid: int, started: int, *, patience: float = 3.0) -> None:
    """SIGTERM, ``patience`` seconds, then SIGKILL; returns when the process is gone.

    :raises AttachError: if it survives SIGKILL
    """
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _KILL_SECONDS)):
        if not send(pid, started, number) or wait_for_end(pid, started, seconds):
            return
    raise AttachError(
        f"process {pid} does not end, even of SIGKILL: it hangs in the host's kernel",
        hint="see `dmesg` of the host; it ends, if ever, when that lets it go",
    )

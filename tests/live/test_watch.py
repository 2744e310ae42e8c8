"""Watching a live guest, in a pipe and on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import kvmtools
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
PROGRAM = [sys.executable, "-m", "kvmtools", "watch", "-n", "0.2"]


def runs(guest: Guest) -> bool:
    with QmpMonitor(str(guest.qmp)) as monitor:
        return monitor.running()


def test_a_line_for_each_look(nopae_guest: Guest) -> None:
    words = [*PROGRAM, "-g", nopae_guest.name, "--count", "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    slots = r"pkmap \d+ in use, \d+ unused, \d+ free, \d+ changed, flushes \d+"
    assert all(
        re.fullmatch(rf" +[\d.]+ s  {slots}  free .*HIGHMEM [\d,]+  held .* ms", line) for line in lines
    )
    assert "\x1b" not in done.stdout


def test_what_the_driver_does_is_seen(nopae_guest: Guest) -> None:
    words = [*PROGRAM, "-g", nopae_guest.name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with Agent(nopae_guest.agent) as agent:
            agent.driver("mix 50")
            agent.driver("mix 60")
        for line in process.stdout:
            if int(re.findall(r"(\d+) changed", line)[0]):
                break
        # Whoever read the lines is gone.
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert runs(nopae_guest)


@contextmanager
def on_a_terminal(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal of 40 lines, of which the other end is given."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*PROGRAM, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(ours: int, what: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 60
    while what not in seen:
        assert time.monotonic() < deadline, seen[-2000:]
        seen += os.read(ours, 1 << 16)
    return seen


def rest(ours: int) -> bytes:
    """All that is still written; the terminal ends with its last writer."""
    seen = b""
    try:
        while data := os.read(ours, 1 << 16):
            seen += data
    except OSError:
        pass
    return seen


def test_the_screen_is_drawn_anew(nopae_guest: Guest) -> None:
    with on_a_terminal("-g", nopae_guest.name, "--count", "2") as (process, ours):
        seen = rest(ours)
        assert process.wait(30) == 0
    assert b"look 1" in seen
    assert b"look 2" in seen[seen.index(b"\x1b[1A") :], "the cursor went back up"
    assert seen.rfind(SHOW_CURSOR) > seen.rfind(HIDE_CURSOR) >= 0


@pytest.mark.parametrize(("key", "number"), [(b"\x03", signal.SIGINT), (None, signal.SIGTERM)])
def test_the_terminal_is_left_clean_and_the_guest_runs(
    nopae_guest: Guest, key: bytes | None, number: signal.Signals
) -> None:
    with on_a_terminal("-g", nopae_guest.name) as (process, ours):
        seen = read_until(ours, b"look 2")
        if key is None:
            process.send_signal(number)
        else:
            os.write(ours, key)
        seen += rest(ours)
        assert process.wait(30) == 128 + number
    assert seen.rfind(SHOW_CURSOR) > seen.rfind(HIDE_CURSOR)
    assert b"Traceback" not in seen
    assert runs(nopae_guest)


def test_a_guest_that_ends_is_said_in_one_line() -> None:
    with kvmtools.booted(f"test-watch-{os.getpid()}", kernel="nopae", memory="256M") as guest:
        words = [*PROGRAM, "-g", guest.name]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            os.kill(guest.pid, signal.SIGKILL)
            _out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert len(err.splitlines()) == 1
    assert err.startswith("kvmtools: ")

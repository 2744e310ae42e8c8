"""Waiting for a guest that was just started, and noticing early that it will never come."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.guests.record import Guest
from kvmtools.boot.host import detached
from kvmtools.errors import AttachError

_PANIC = re.compile(rb"Kernel panic - not syncing: [^\r\n]*")
_GLANCE = 0.1  # seconds between two looks
_ONE_TRY = 0.5  # seconds for one question to the agent; what it was sent before init listened is lost


def wait(guest: Guest, *, has_agent: bool, seconds: float, progress: Callable[[str], None]) -> None:
    """Return when QMP answers and, if there is one, the agent too.

    :raises AttachError: if QEMU ends, the kernel panics, or ``seconds`` pass
    """
    deadline = time.monotonic() + seconds
    while not guest.qmp.exists():
        _still_coming(guest, deadline, seconds, "QEMU to start")
    # The socket is there before QEMU listens to it: one refused connection is no reason to give up.
    while not _monitor_answers(guest):
        _still_coming(guest, deadline, seconds, "QEMU's monitor")
    if not has_agent:
        progress("QEMU answers")
        return
    from kvmtools.boot.guests.agent import Agent

    progress("waiting for the guest's agent")
    agent = Agent(guest.agent)
    while True:
        try:
            agent.wait_ready(timeout=_ONE_TRY)
            break
        except AttachError:
            _still_coming(guest, deadline, seconds, "the guest's agent")


def _monitor_answers(guest: Guest) -> bool:
    from kvmtools.attach.monitor.qmp import Monitor

    try:
        Monitor(str(guest.qmp), greeting_seconds=2.0).close()
    except AttachError:
        return False
    return True


def _still_coming(guest: Guest, deadline: float, seconds: float, what: str) -> None:
    """Sleep a little, unless waiting for ``what`` has become pointless."""
    files = GuestFiles(guest.directory)
    if detached.wait_for_end(guest.pid, guest.started, _GLANCE):
        raise AttachError(
            f"guest '{guest.name}' did not start: {files.last_output()}",
            hint="nothing was left behind; check the kernel, the memory size and --append",
        )
    panic = _PANIC.search(guest.console.read_bytes()) if guest.console.exists() else None
    if panic is not None:
        raise AttachError(
            f"guest '{guest.name}' did not start: {panic[0].decode(errors='replace')}",
            hint="check the kernel and --append",
        )
    if time.monotonic() >= deadline:
        raise AttachError(
            f"guest '{guest.name}' did not start: waited {seconds:.0f} s for {what}; {files.last_output()}",
            hint="give it longer with --timeout",
        )

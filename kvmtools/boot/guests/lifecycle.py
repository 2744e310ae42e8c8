"""The life of a guest: started by one command, found by any later one, stopped by a third."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kvmtools.boot.guests import guest_state, registry
from kvmtools.boot.guests.guest_state import GuestState, VcpuThread
from kvmtools.boot.guests.record import Guest, Unreadable
from kvmtools.boot.guests.registry import DeadGuest
from kvmtools.boot.guests.starting import silent, start
from kvmtools.boot.host import detached
from kvmtools.boot.host.interrupts import ending_raises, held
from kvmtools.errors import AttachError, GuestVanished, KvmtoolsError

__all__ = [
    "DeadGuest",
    "Guest",
    "GuestState",
    "Unreadable",
    "VcpuThread",
    "all_guests",
    "booted",
    "find",
    "start",
    "state",
    "stop",
    "sweep",
    "unreadable",
]


@contextlib.contextmanager
def booted(
    name: str,
    *,
    kernel: str,
    memory: str = "2G",
    append: str = "",
    accel: str = "auto",
    progress: Callable[[str], None] = silent,
) -> Iterator[Guest]:
    """A guest for the length of a ``with``; see :func:`start` for the arguments and exceptions."""
    # A signal that ends the program must pass through here, and must not cut the stopping short.
    with ending_raises():
        guest = start(name, kernel=kernel, memory=memory, append=append, accel=accel, progress=progress)
        try:
            yield guest
        finally:
            with held():
                stop(guest)


def find(name: str) -> Guest:
    """The running guest of that name.

    :raises GuestVanished: if its QEMU died; what it left is cleaned up
    :raises AttachError: if there is none; the hint names those that run.  Also if its record cannot be read
    """
    found = registry.look(name)
    if isinstance(found, Guest) and found.alive:
        return found
    if isinstance(found, Unreadable):
        raise found.error()
    dead = registry.clean_up(name)
    if dead is not None:
        raise GuestVanished(str(dead), hint=f"start it again: kvmtools guest start {name}")
    running = ", ".join(other.name for other in all_guests())
    raise AttachError(
        f"no guest '{name}' is running",
        hint=f"running: {running}" if running else f"start it: kvmtools guest start {name}",
    )


def all_guests() -> list[Guest]:
    """The guests that run, by name."""
    return [found for found in registry.records() if isinstance(found, Guest) and found.alive]


def unreadable() -> list[Unreadable]:
    """What is on file and may be a guest that runs, by name; nothing is done to such a one."""
    return [found for found in registry.records() if isinstance(found, Unreadable)]


def sweep() -> list[DeadGuest]:
    """Clean up after every guest whose QEMU died, and tell what became of each."""
    cleaned = (registry.clean_up(found.name) for found in registry.records())
    return [dead for dead in cleaned if dead is not None]


def state(guest: Guest) -> GuestState:
    """What QEMU says of ``guest`` now.

    :raises AttachError: if it is gone; :class:`GuestVanished` if its QEMU died
    """
    found = guest_state.ask(guest)
    if found.status == guest_state.BUSY:
        find(guest.name)
    return found


def stop(guest: Guest, *, patience: float = 3.0) -> None:
    """End a guest, as politely as it lets us, and remove what it had.

    Its own ``poweroff``, QMP ``quit``, SIGTERM and SIGKILL each get ``patience`` seconds.  A guest that is
    already gone is only cleaned up.

    :raises UsageError: if another process is starting or stopping it, and does not come to an end
    :raises AttachError: if its QEMU does not end; it stays on file
    """
    for ask_politely in (_power_off, _quit):
        if not guest.alive:
            break
        with contextlib.suppress(KvmtoolsError, OSError):
            if ask_politely(guest, patience):
                detached.wait_for_end(guest.pid, guest.started, patience)
    try:
        detached.end(guest.pid, guest.started, patience=patience)
    except AttachError as hangs:
        raise AttachError(
            f"guest '{guest.name}' is not stopped: QEMU's {hangs.message}", hint=hangs.hint
        ) from None
    with registry.locked(guest.name, wait=5.0) as found:
        # Whoever was starting it may have cleaned up already, and started anew.
        if found == guest:
            registry.remove(guest.name)


def _power_off(guest: Guest, patience: float) -> bool:
    """Ask the guest itself; whether it was in a state to hear it."""
    from kvmtools.attach.monitor.qmp import Monitor
    from kvmtools.boot.guests.agent import Agent
    from kvmtools.boot.kernels import reference

    if guest.kernel not in reference.KNOWN:
        return False
    with Monitor(str(guest.qmp), greeting_seconds=patience) as monitor:
        if not monitor.command("query-status")["running"]:
            return False
    Agent(guest.agent, timeout=patience).poweroff()
    return True


def _quit(guest: Guest, patience: float) -> bool:
    from kvmtools.attach.monitor.qmp import Monitor

    with Monitor(str(guest.qmp), greeting_seconds=patience) as monitor:
        monitor.command("quit")
    return True

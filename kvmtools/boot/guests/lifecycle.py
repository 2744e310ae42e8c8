"""The life of a guest: started by one command, found by any later one, stopped by a third."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from kvmtools.boot.guests import guest_state, registry
from kvmtools.boot.guests.guest_state import GuestState
from kvmtools.boot.guests.record import Guest
from kvmtools.boot.guests.starting import silent, start
from kvmtools.boot.host import detached
from kvmtools.boot.host.interrupts import ending_raises, held
from kvmtools.errors import AttachError, KvmtoolsError


@contextlib.contextmanager
def booted(
    name: str,
    *,
    kernel: str,
    vmlinux: Path | None = None,
    initrd: Path | None = None,
    memory: str = "2G",
    smp: int = 2,
    append: str = "",
    accel: str = "auto",
    progress: Callable[[str], None] = silent,
    timeout: float = 120.0,
) -> Iterator[Guest]:
    """A guest for the length of a ``with``; see :func:`start` for the arguments and exceptions."""
    # A signal that ends the program must pass through here, and must not cut the stopping short.
    with ending_raises():
        guest = start(
            name,
            kernel=kernel,
            vmlinux=vmlinux,
            initrd=initrd,
            memory=memory,
            smp=smp,
            append=append,
            accel=accel,
            progress=progress,
            timeout=timeout,
        )
        try:
            yield guest
        finally:
            with held():
                stop(guest)


def state(guest: Guest) -> GuestState:
    """What QEMU says of ``guest`` now.

    :raises AttachError: if it is gone; :class:`GuestVanished` if its QEMU died
    """
    found = guest_state.ask(guest)
    if found.status == guest_state.BUSY:
        registry.find(guest.name)
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
    from kvmtools.attach.monitor.qmp import QmpMonitor
    from kvmtools.boot.guests.agent import Agent
    from kvmtools.boot.kernels import reference

    if guest.kernel not in reference.KNOWN:
        return False
    with QmpMonitor(str(guest.qmp), greeting_seconds=patience) as monitor:
        if not monitor.running():
            return False
    Agent(guest.agent, timeout=patience).poweroff()
    return True


def _quit(guest: Guest, patience: float) -> bool:
    from kvmtools.attach.monitor.qmp import QmpMonitor

    with QmpMonitor(str(guest.qmp), greeting_seconds=patience) as monitor:
        monitor.quit()
    return True

"""What a guest is doing now, as far as its QEMU tells."""

from __future__ import annotations

from dataclasses import dataclass

from kvmtools.boot.guests import console, ram_location
from kvmtools.boot.guests.record import Guest
from kvmtools.boot.host import detached
from kvmtools.errors import AttachError

BUSY = "busy"
_MONITOR_SECONDS = 3.0  # QEMU greets at once, unless it serves another client


@dataclass(frozen=True)
class VcpuThread:
    """One virtual CPU: its index in the guest, and the host thread that runs it."""

    index: int
    thread_id: int


@dataclass(frozen=True)
class GuestState:
    """What QEMU says of a guest now.

    :ivar status: QMP's word, such as ``running`` or ``paused``; ``busy`` if another client holds the monitor
    :ivar ram_touched_bytes: how much of the RAM file really exists; ``None`` if it cannot be looked at
    :ivar panic: why its kernel panicked, as it printed or, if it printed nothing, noted; ``""`` if it did not
    """

    status: str
    vcpus: tuple[VcpuThread, ...]
    uptime_seconds: float
    ram_touched_bytes: int | None
    panic: str = ""


def ask(guest: Guest) -> GuestState:
    """What QEMU and the console of ``guest`` say; that it is busy if nobody answers.  A large console is trimmed."""
    from kvmtools.attach.monitor.qmp import QmpMonitor
    from kvmtools.boot.guests import cpu_places

    vcpus: tuple[VcpuThread, ...] = ()
    try:
        with QmpMonitor(str(guest.qmp), greeting_seconds=_MONITOR_SECONDS) as monitor:
            status = monitor.status()
            threads = monitor.vcpu_threads()
        vcpus = tuple(VcpuThread(cpu, thread) for cpu, thread in threads.items() if thread is not None)
    except AttachError:
        status = BUSY
    console.trim(guest.console)
    return GuestState(
        status,
        vcpus,
        detached.uptime_seconds(guest.started),
        ram_location.touched_bytes(guest.ram),
        console.panic(guest.console) or cpu_places.unprinted_panic(guest),
    )

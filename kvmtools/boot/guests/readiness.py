"""Waiting for a guest that was just started, and noticing early that it will never come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvmtools.boot.guests import console
from kvmtools.boot.guests.console import Console
from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.guests.record import Guest
from kvmtools.boot.host import detached
from kvmtools.errors import AttachError

if TYPE_CHECKING:
    from kvmtools.boot.guests.agent import Agent

_OURS = "kvmtools."  # a parameter of our driver's, among the kernel's
_GLANCE = 0.1  # seconds between two looks
_ONE_TRY = 0.5  # seconds for one question to the agent; what it was sent before init listened is lost


def wait(guest: Guest, *, has_agent: bool, seconds: float, progress: Callable[[str], None]) -> None:
    """Return when QMP answers and, if there is one, the agent too.

    :raises AttachError: if QEMU ends, the kernel panics, or ``seconds`` pass; the hint says where its messages are kept
    """
    waiting = _Waiting(guest, seconds)
    while not guest.qmp.exists():
        waiting.go_on("QEMU to start")
    # The socket is there before QEMU listens to it: one refused connection is no reason to give up.
    while not _monitor_answers(guest):
        waiting.go_on("QEMU's monitor")
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
            waiting.go_on("the guest's agent")
    waiting.demand_parameters(agent)


def _monitor_answers(guest: Guest) -> bool:
    from kvmtools.attach.monitor.qmp import QmpMonitor

    try:
        QmpMonitor(str(guest.qmp), greeting_seconds=2.0).close()
    except AttachError:
        return False
    return True


@dataclass
class _Waiting:
    """Until when we wait for a guest, and its console so far."""

    guest: Guest
    seconds: float
    deadline: float = field(init=False)
    console: Console = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.seconds
        self.console = Console(self.guest.console)

    def go_on(self, what: str) -> None:
        """Sleep a little, unless waiting for ``what`` has become pointless.

        :raises AttachError: if it has
        """
        guest = self.guest
        if detached.wait_for_end(guest.pid, guest.started, _GLANCE):
            raise self._failed(_how_it_ended(guest), "check the kernel, the memory size and --append")
        panic = self.console.panic()
        console.trim(guest.console)
        if panic:
            raise self._failed(panic, "check the kernel and --append")
        if time.monotonic() >= self.deadline:
            raise self._failed(
                f"waited {self.seconds:.0f} s for {what}; {_where_it_is(guest)}",
                "give it longer with --timeout",
            )

    def demand_parameters(self, agent: Agent) -> None:
        """Our driver's parameters among the kernel's mean something to it.

        :raises AttachError: if they do not: a value that it does not know keeps it from being loaded, a name does not
        """
        ours = [word for word in self.guest.command[-1].split() if word.startswith(_OURS)]
        if not ours:
            return
        if (said := agent.version()["driver"]) != "ready":
            raise self._failed(f"its driver says {said} to {' '.join(ours)}", "qemu/README.md has the faults")
        known = agent.names("/sys/module/kvmtools/parameters")
        for word in ours:
            if word.removeprefix(_OURS).partition("=")[0] not in known:
                raise self._failed(f"its driver does not know {word}", f"it knows {', '.join(known)}")

    def _failed(self, why: str, way_out: str) -> AttachError:
        kept = console.keep(self.guest.console, self.guest.name)
        messages = f"; what it printed is in {kept}" if kept else ""
        return AttachError(f"guest '{self.guest.name}' did not start: {why}", hint=f"{way_out}{messages}")


def _how_it_ended(guest: Guest) -> str:
    files = GuestFiles(guest.directory)
    if console.last_line(files.qemu_log) or console.last_line(guest.console):
        return files.last_output()
    # -no-reboot: what would restart the machine ends QEMU.
    return "QEMU ended and said nothing: the machine was reset before its kernel printed anything"


def _where_it_is(guest: Guest) -> str:
    from kvmtools.boot.guests import cpu_places

    printed = console.last_line(guest.console)
    said = f"the console ends with: {printed}" if printed else "the console is empty"
    return "; ".join(filter(None, (said, cpu_places.tell(guest))))

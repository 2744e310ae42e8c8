"""From the words of a command line to an attached kernel: the one place where the rooms meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from kvmtools.cli.options import TargetOptions
from kvmtools.errors import AttachError, Inconclusive, MemoryFault, SymbolsError, UsageError

if TYPE_CHECKING:
    from kvmtools.attach.monitor.pause import Pause
    from kvmtools.attach.target import Target
    from kvmtools.observe.kernel import Kernel
    from kvmtools.observe.observed import Observed

T = TypeVar("T")

ATTEMPTS = 5
"""How often a guest that must not be paused is read, until its lists were at rest all the while."""


@dataclass
class Session:
    """A target and the kernel found in it; ``pauses`` remembers every time we stopped the guest."""

    target: Target
    kernel: Kernel
    pauses: list[Pause] = field(default_factory=list)

    def observe(self, *, processes: bool = True) -> Observed:
        """Capture what the observers need while the guest is paused, then decode it while it runs on.

        :raises Inconclusive: if the guest was not to be paused, and its lists were in flux whenever they were read
        """
        from kvmtools.observe import observed

        for _ in range(ATTEMPTS):
            with observed.prepare(self.kernel, processes=processes) as capture, self.target.paused() as pause:
                snapshot = capture.take()
                registers = self.target.registers()
            self.pauses.append(pause)
            seen = observed.observe(self.kernel, snapshot, registers=registers)
            if not (seen.broken and _in_flux(pause)):
                return seen
        raise _never_at_rest(f"{seen.broken[0].structure}: {seen.broken[0].reason}")

    def runs(self) -> bool:
        """Whether the guest runs between two observations; asked after the first."""
        return any(pause.was_running for pause in self.pauses)

    def held(self, read: Callable[[], T]) -> T:
        """What ``read`` returns while the guest is held.

        It is tried before, while the guest runs: so it learns what it asks of the vmlinux, which may take a second.

        :raises MemoryFault: if something that ``read`` needs cannot be read
        :raises Inconclusive: if it cannot, and the guest was not to be paused
        """
        with suppress(MemoryFault):
            read()
        for _ in range(ATTEMPTS):
            with self.target.paused() as pause:
                self.pauses.append(pause)
                try:
                    return read()
                except MemoryFault as fault:
                    if not _in_flux(pause):
                        raise
                    reason = str(fault)
        raise _never_at_rest(reason)

    @property
    def live(self) -> dict[str, str | float]:
        """What this run did to a live guest, for the result (the longest of its pauses); empty for a core."""
        if self.target.monitor is None:
            return {}
        live: dict[str, str | float] = {
            "target": self.target.description,
            "transport": self.target.transport,
        }
        if self.pauses and not self.runs():
            live["consistency"] = "the guest was paused before, and stays so"
        elif any(pause.held for pause in self.pauses):
            live["pause_milliseconds"] = round(max(pause.milliseconds for pause in self.pauses), 1)
        else:
            live["consistency"] = "read while the guest ran: what changed meanwhile may look wrong"
        return live


def _in_flux(pause: Pause) -> bool:
    """Whether the guest may have changed what was being read."""
    return pause.was_running and not pause.held


def _never_at_rest(reason: str) -> Inconclusive:
    return Inconclusive(
        f"the guest ran while it was read, and something could not be: {reason}",
        hint="without --no-pause it is held for some milliseconds",
    )


@contextmanager
def attached_target(options: TargetOptions) -> Iterator[Target]:
    """Open the target that ``options`` names.

    :raises UsageError: if none or more than one target is named
    :raises AttachError: if there is no way to it
    """
    with _open(options) as target:
        yield target


@contextmanager
def attached(options: TargetOptions) -> Iterator[Session]:
    """Open the target and find its kernel.

    :raises SymbolsError: if there is no vmlinux, or it is not the guest's
    """
    from kvmtools.observe.kernel import locate
    from kvmtools.observe.symbols.vmlinux import Vmlinux

    with attached_target(options) as target:
        if target.vmlinux is None:
            raise SymbolsError("no vmlinux is known for this target", hint="give one with -s/--symbols PATH")
        vmlinux = Vmlinux.load(target.vmlinux)
        yield Session(target, locate(target.memory, vmlinux, target.vmcoreinfo()))
        vmlinux.save()


def _open(options: TargetOptions) -> Target:
    """The one target that is named."""
    from kvmtools.attach.open import open_target

    named = [name for name in ("guest", "qemu", "core") if getattr(options, name) is not None]
    if len(named) > 1:
        raise UsageError(f"--{named[0]} and --{named[1]} name two targets", hint="give one of -g, --qemu, -c")
    if options.gdb and options.qemu is None:
        raise UsageError("--gdb goes with --qemu", hint="a guest of ours is known with its GDB socket")
    if options.core is not None:
        return open_target(core=options.core, vmlinux=options.symbols)
    if options.qemu is not None:
        return open_target(qemu=options.qemu, gdb=options.gdb, vmlinux=options.symbols, pause=options.pause)

    from kvmtools.boot.guests import lifecycle

    guest = lifecycle.find(options.guest if options.guest is not None else _only_guest())
    return open_target(
        qemu=str(guest.qmp),
        gdb=str(guest.gdb),
        ram=guest.ram,
        vmlinux=options.symbols or guest.vmlinux,
        pause=options.pause,
    )


def _only_guest() -> str:
    """The name of the guest that is meant when none is named: the one that runs."""
    from kvmtools.boot.guests import lifecycle

    running = lifecycle.all_guests()
    if len(running) == 1:
        return running[0].name
    if running:
        raise UsageError(
            "several guests run: " + ", ".join(guest.name for guest in running), hint="name one with -g NAME"
        )
    raise AttachError(
        "no target is named and no guest of ours runs",
        hint="start one with `kvmtools guest start pae`, or give --qemu ADDRESS or -c CORE with -s VMLINUX",
    )

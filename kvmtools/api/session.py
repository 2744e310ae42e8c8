"""A guest that is attached to, the kernel found in it, and how both are read: while the guest is held, or retried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from kvmtools.errors import Inconclusive, MemoryFault, SymbolsError, Unobserved, UsageError

if TYPE_CHECKING:
    from kvmtools.attach.monitor.pause import Pause
    from kvmtools.attach.target import Target
    from kvmtools.observe.kernel import Kernel
    from kvmtools.observe.observed import Observed
    from kvmtools.records import Registers

T = TypeVar("T")

ATTEMPTS = 5
"""How often a guest that must not be paused is read, until its lists were at rest all the while."""


@dataclass
class Session:
    """A target and the kernel found in it; ``pauses`` remembers every time we stopped the guest.

    :ivar console: the file with what its kernel printed, if the guest is ours
    :ivar holding: of the pauses, those that last
    """

    target: Target
    kernel: Kernel
    pauses: list[Pause] = field(default_factory=list)
    console: Path | None = None
    holding: list[Pause] = field(default_factory=list)
    _asked: bool = False

    def observe(self, *, processes: bool = True) -> Observed:
        """Capture what the observers need while the guest is paused, then decode it while it runs on.

        :raises Inconclusive: if the guest was not to be paused, and its lists were in flux whenever they were read
        :raises SymbolsError: if it was rebooted since its kernel was found
        """
        from kvmtools.observe import observed

        for _ in range(ATTEMPTS):
            with observed.prepare(self.kernel, processes=processes) as capture, self.target.paused() as pause:
                snapshot = capture.take()
                registers = self.target.registers()
            self.pauses.append(pause)
            self._demand_the_same_kernel(registers)
            seen = observed.observe(self.kernel, snapshot, registers=registers)
            if not (seen.broken and _in_flux(pause)):
                return seen
        raise _never_at_rest(f"{seen.broken[0].structure}: {seen.broken[0].reason}")

    def _demand_the_same_kernel(self, registers: Sequence[Registers]) -> None:
        """An earlier boot's kernel stays in memory, and answers as if it still ran.

        :raises SymbolsError: if the CPUs clearly run something else than the kernel that was found
        """
        from kvmtools.observe.symbols.running import runs_on

        self._asked = True
        if self.target.monitor is None:
            return
        kernel, said = self.kernel, []
        with suppress(SymbolsError):  # recorded facts may not say where the CPUs' tables are
            said = [runs_on(kernel.memory, kernel.vmlinux, kernel.slide, cpu) for cpu in registers]
        if False in said and True not in said:
            raise SymbolsError(
                "the kernel that was found here does not run any more: the guest was rebooted, or is about to be",
                hint="open the guest again",
            )

    def find_again(self) -> None:
        """Find the kernel once more: the guest may have been rebooted since, and KASLR has put it elsewhere.

        :raises SymbolsError: if it is not there
        """
        from kvmtools.observe.kernel import locate

        self.kernel = locate(self.target.memory, self.kernel.vmlinux, None, self.target.registers())

    def seen_by(self, cpu: int | None = None) -> Kernel:
        """The kernel with its page tables as a vCPU reads them now; without a choice, as the first that pages does.

        :raises UsageError: as :meth:`paging_vcpu`
        """
        from kvmtools.observe.processor import seen_by_processor

        registers = self.target.registers() if cpu is None else [self.paging_vcpu(cpu)]
        return seen_by_processor(self.kernel, registers)

    def paging_vcpu(self, cpu: int) -> Registers:
        """The registers of one vCPU, whose page table is asked for.

        :raises UsageError: if there is none of that number, or it has no page table
        """
        registers = {one.cpu: one for one in self.target.registers()}
        if cpu not in registers:
            raise UsageError(
                f"there is no vCPU {cpu}", hint=f"the guest has {', '.join(map(str, registers))}"
            )
        if not registers[cpu].paged:
            raise UsageError(
                f"vCPU {cpu} has no page table: its paging is off", hint="`kvmtools regs` says where it is"
            )
        return registers[cpu]

    def runs(self) -> bool:
        """Whether the guest runs between two observations: it ran before the last one."""
        return bool(self.pauses) and self.pauses[-1].was_running

    def paused(self) -> Holding:
        """Hold the guest for several questions."""
        return Holding(self)

    def held(self, read: Callable[[], T]) -> T:
        """What ``read`` returns while the guest is held.

        It is tried before, while the guest runs: so it learns what it asks of the vmlinux, which may take a second.

        :raises MemoryFault: if something that ``read`` needs cannot be read
        :raises Inconclusive: if it cannot, and the guest was not to be paused
        :raises SymbolsError: if it was rebooted since its kernel was found
        """
        if self._asked and not self.holding:  # the first question follows the search for the kernel at once
            self._demand_the_same_kernel(self.target.registers())
        self._asked = True
        with suppress(Unobserved, UsageError):
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
    def read_while_running(self) -> bool:
        """Whether anything was read while the guest ran."""
        return any(_in_flux(pause) for pause in self.pauses)

    def live(self, pauses: Sequence[Pause]) -> dict[str, str | float]:
        """What one question did to a live guest, for the result (the longest of its pauses); empty for a core."""
        from kvmtools.boot.guests import console

        monitor = self.target.monitor
        if monitor is None:
            return {}
        live: dict[str, str | float] = {
            "target": self.target.description,
            "transport": self.target.transport,
        }
        if self.console is not None and (panic := console.panic(self.console)):
            live["panic"] = panic
        if any(pause.was_running and pause.held for pause in self.holding):
            live["consistency"] = "this program held the guest before, and holds it still"
        elif not any(pause.was_running for pause in pauses):
            live["consistency"] = f"the guest was paused before, and stays so; {monitor.resumes} lets it run"
        elif any(pause.held for pause in pauses):
            live["pause_milliseconds"] = round(max(pause.milliseconds for pause in pauses), 1)
        else:
            live["consistency"] = "read while the guest ran: what changed meanwhile may look wrong"
        return live


class Holding:
    """The guest held still for the length of a ``with``: a :class:`kvmtools.attach.monitor.pause.Pausing`, of which
    the session knows.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pausing = session.target.paused()

    def __enter__(self) -> Pause:
        pause = self._pausing.__enter__()
        self._session.holding.append(pause)
        self._session.pauses.append(pause)
        return pause

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.holding.pop()
        self._pausing.__exit__(kind, error, trace)


def _in_flux(pause: Pause) -> bool:
    """Whether the guest may have changed what was being read."""
    return pause.was_running and not pause.held


def _never_at_rest(reason: str) -> Inconclusive:
    return Inconclusive(
        f"the guest ran while it was read, and something could not be: {reason}",
        hint="without --no-pause (pause=False) it is held for some milliseconds",
    )

"""Which page table is meant: the kernel's own, a vCPU's, a process's, or one at an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmtools.api.addresses import Address, spelled
from kvmtools.errors import UsageError
from kvmtools.show.addresses import LONGEST_CR3, physical_address

if TYPE_CHECKING:
    from kvmtools.api.session import Session


@dataclass(frozen=True, slots=True)
class PageTable:
    """A page table by its CR3 (a physical address, with the bits that CR3 has beside it), and whose it is."""

    cr3: int
    name: str
    """``"swapper_pg_dir"``, ``"vCPU 0"``, ``"pid 1 (init)"``, or ``"at 0x1473000"``."""


@dataclass(frozen=True, slots=True)
class PageTableChoice:
    """What was asked for, at most one of three; :meth:`find` looks it up in a guest.

    :raises UsageError: if there is more than one
    """

    cr3: Address | None = None
    cpu: int | None = None
    pid: int | None = None

    def __post_init__(self) -> None:
        named = [name for name in ("cr3", "cpu", "pid") if getattr(self, name) is not None]
        if len(named) > 1:
            raise UsageError(f"{named[0]} and {named[1]} name two page tables", hint="give one of them")

    @property
    def of_kernel(self) -> bool:
        """Whether nothing was chosen: the kernel's own is meant."""
        return self.cr3 is None and self.cpu is None and self.pid is None

    def find(self, session: Session) -> PageTable:
        """The page table that is meant; without a choice the kernel's own, ``swapper_pg_dir``.

        :raises UsageError: if there is no such vCPU or process, or the vCPU's paging is off
        """
        if self.cr3 is not None:
            cr3 = physical_address(spelled(self.cr3), LONGEST_CR3)
            return PageTable(cr3, f"at {cr3:#x}")
        if self.cpu is not None:
            return PageTable(session.paging_vcpu(self.cpu).cr3, f"vCPU {self.cpu}")
        if self.pid is not None:
            return _of_process(session, self.pid)
        kernel = session.kernel
        return PageTable(kernel.root, kernel.architecture.root)


def _of_process(session: Session, pid: int) -> PageTable:
    from kvmtools.observe.broken import Broken
    from kvmtools.observe.tasks.processes import observe_processes

    broken: list[Broken] = []
    for process in observe_processes(session.kernel, broken):
        if process.pid == pid:
            return PageTable(process.pgd, f"pid {pid} ({process.comm})")
    raise UsageError(
        f"there is no process {pid} with an address space of its own",
        hint=f"not all can be read: {broken[0].reason}" if broken else "kernel threads have none",
    )

"""Which page table a person means: the kernel's own, a vCPU's, a process's, or one at an address."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.options import TargetOptions
from kvmtools.errors import KvmtoolsError, UsageError
from kvmtools.show.addresses import LONGEST_CR3, physical_address

if TYPE_CHECKING:
    from kvmtools.cli.session import Session


@dataclass(frozen=True, slots=True)
class PageTable:
    """A page table by its CR3, and whose it is."""

    cr3: int
    name: str


@dataclass(frozen=True, slots=True)
class PageTableChoice:
    """What the options said; :meth:`find` looks it up in a guest."""

    cr3: str | None
    cpu: int | None
    pid: int | None

    def __post_init__(self) -> None:
        named = [name for name in ("cr3", "cpu", "pid") if getattr(self, name) is not None]
        if len(named) > 1:
            raise UsageError(f"--{named[0]} and --{named[1]} name two page tables", hint="give one of them")

    @property
    def of_kernel(self) -> bool:
        """Whether nothing was chosen: the kernel's own is meant."""
        return self.cr3 is None and self.cpu is None and self.pid is None

    def find(self, session: Session) -> PageTable:
        """The page table that is meant; without a choice the kernel's own, ``swapper_pg_dir``.

        :raises UsageError: if there is no such vCPU or process
        """
        if self.cr3 is not None:
            cr3 = physical_address(self.cr3, LONGEST_CR3)
            return PageTable(cr3, f"at {cr3:#x}")
        if self.cpu is not None:
            return self._of_cpu(session, self.cpu)
        if self.pid is not None:
            return self._of_process(session, self.pid)
        kernel = session.kernel
        return PageTable(kernel.physical(kernel.address("swapper_pg_dir")), "swapper_pg_dir")

    @staticmethod
    def _of_cpu(session: Session, cpu: int) -> PageTable:
        registers = {one.cpu: one for one in session.target.registers()}
        if cpu not in registers:
            raise UsageError(
                f"there is no vCPU {cpu}", hint=f"the guest has {', '.join(map(str, registers))}"
            )
        return PageTable(registers[cpu].cr3, f"vCPU {cpu}")

    @staticmethod
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


def complete_pid(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Processes of the guest that the words before name; nothing if there is no way to it."""
    from kvmtools.cli.session import attached
    from kvmtools.observe.tasks.processes import observe_processes

    named = {name: ctx.params.get(name) for name in ("guest", "qemu", "gdb", "core", "symbols")}
    try:
        with attached(TargetOptions(**named, pause=False)) as session:
            found = observe_processes(session.kernel)
    except (KvmtoolsError, OSError):
        return []
    return [CompletionItem(str(p.pid), help=p.comm) for p in found if str(p.pid).startswith(incomplete)]


def page_table_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--cr3``, ``--cpu`` and ``--pid``; the function gets one :class:`PageTableChoice`, ``tables``."""

    @click.option("--cr3", metavar="ADDRESS", help="Walk the page table at this physical address.")
    @click.option("--cpu", metavar="N", type=int, help="Walk the page table that vCPU N uses now.")
    @click.option(
        "--pid",
        metavar="PID",
        type=int,
        shell_complete=complete_pid,
        help="Walk the page table of this process.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, cr3: str | None, cpu: int | None, pid: int | None, **kwargs: Any) -> Any:
        return function(*args, tables=PageTableChoice(cr3, cpu, pid), **kwargs)

    return wrapper

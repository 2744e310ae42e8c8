"""Every process that has an address space, and where its page tables start.

Source: ``struct task_struct``, include/linux/sched.h; the list is ``init_task.tasks`` (6.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from kvmtools.errors import Absent, MemoryFault
from kvmtools.observe.broken import Broken, noted
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.structure import Structure

_TASK = "struct task_struct"
_MM = "struct mm_struct"


@dataclass(frozen=True, slots=True)
class Process:
    """A thread group with an ``mm``; of several that share one (``CLONE_VM``) the first on the list."""

    pid: int
    """``tgid``, which user space calls the pid."""
    comm: str
    """``"?"`` if this kernel does not say."""
    task: int
    """Virtual address of the leader's ``struct task_struct``."""
    mm: int
    """Virtual address of its ``struct mm_struct``."""
    pgd: int
    """Physical address of its top table: what CR3 holds while it runs (the kernel's half with PTI)."""


def observe_processes(kernel: Kernel, broken: list[Broken] | None = None) -> tuple[Process, ...]:
    """Processes in the order of the task list, which is that of their creation; kernel threads have no ``mm``.

    :param broken: takes the processes whose ``mm`` or page tables are nowhere, and what ends the list too early; they
        are left out
    """
    found: dict[int, Process] = {}
    with noted(broken, "task list", "task_struct.tasks"):
        for task in _tasks(kernel):
            with noted(broken, f"pid {task.unsigned('tgid')}", "task_struct.mm, mm_struct.pgd"):
                mm = _mm(kernel, task)
                if mm is not None and mm.address not in found:
                    found[mm.address] = _process(kernel, task, mm)
    return tuple(found.values())


def _process(kernel: Kernel, task: Structure, mm: Structure) -> Process:
    pgd = kernel.physical(mm.unsigned("pgd"))
    comm = "?"
    with suppress(Absent):
        comm = task.text("comm")
    return Process(task.unsigned("tgid"), comm, task.address, mm.address, pgd)


def _mm(kernel: Kernel, task: Structure) -> Structure | None:
    address = task.unsigned("mm")
    return Structure(kernel, _MM, address) if address else None


def _tasks(kernel: Kernel) -> Iterator[Structure]:
    """Leaders of all thread groups but the idle task.

    :raises MemoryFault: if the list leads outside what the kernel maps, was not captured, or does not come back
    """
    first = kernel.address("init_task")
    link = kernel.vmlinux.offset(_TASK, "tasks")
    address_end = kernel.architecture.address_end
    task, visited = Structure(kernel, _TASK, first), set[int]()
    while (address := (task.unsigned("tasks.next") - link) % address_end) != first:
        if address in visited:
            raise MemoryFault(address, "the task list does not come back: it loops here", space="virtual")
        visited.add(address)
        task = Structure(kernel, _TASK, address)
        yield task

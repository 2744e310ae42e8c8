"""Every process that has an address space, and where its page tables start.

Source: ``struct task_struct``, include/linux/sched.h; the list is ``init_task.tasks`` (6.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.per_cpu import physical_ranges
from kvmtools.observe.structure import Structure
from kvmtools.records import Range

_TASK = "struct task_struct"
_MM = "struct mm_struct"
# PID_MAX_LIMIT of 32-bit kernels (include/linux/threads.h): a longer list has lost its way.
_MOST = 32_768


@dataclass(frozen=True, slots=True)
class Process:
    """A thread group with an ``mm``; of several that share one (``CLONE_VM``) the first on the list."""

    pid: int
    """``tgid``, which user space calls the pid."""
    comm: str
    task: int
    """Virtual address of the leader's ``struct task_struct``."""
    mm: int
    """Virtual address of its ``struct mm_struct``."""
    pgd: int
    """Physical address of its top table: what CR3 holds while it runs (the kernel's half with PTI)."""


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_processes` reads; the list is walked."""
    for task, mm in _tasks(kernel):
        for record in (task, mm):
            if record is not None:
                yield from physical_ranges(kernel, record.address, len(record.data))


def observe_processes(kernel: Kernel) -> tuple[Process, ...]:
    """Processes in the order of the task list, which is that of their creation; kernel threads have no ``mm``.

    :raises MemoryFault: if the list leads outside what the kernel maps, or was not captured
    """
    found: dict[int, Process] = {}
    for task, mm in _tasks(kernel):
        if mm is not None and mm.address not in found:
            pgd = kernel.physical(mm.unsigned("pgd"))
            process = Process(task.unsigned("tgid"), task.text("comm"), task.address, mm.address, pgd)
            found[mm.address] = process
    return tuple(found.values())


def _tasks(kernel: Kernel) -> Iterator[tuple[Structure, Structure | None]]:
    """Leaders of all thread groups but the idle task, each with its ``mm`` if it has one."""
    first = kernel.address("init_task")
    link = kernel.facts.offset(_TASK, "tasks")
    task = Structure(kernel, _TASK, first)
    for _ in range(_MOST):
        address = task.unsigned("tasks.next") - link
        if address == first:
            return
        task = Structure(kernel, _TASK, address)
        mm = task.unsigned("mm")
        yield task, Structure(kernel, _MM, mm) if mm else None
    raise MemoryFault(first, f"the task list does not come back within {_MOST} tasks", space="virtual")

"""The fixmap slots through which each CPU shows pages to itself: ``kmap_local_page()`` and ``kmap_atomic()``.

The kernel keeps a pointer to the first slot's entry, and slot n has the n-th entry below it.  CPU after CPU has as many
of them; which slot is whose, and its address, nobody stores: the model says it where both sides meet
(:mod:`kvmtools.compare.rules.kmap_local`, :mod:`kvmtools.api.pkmap`).  A task's first ``kmap_ctrl.idx`` slots are in
use, and what each must hold is in ``kmap_ctrl.pteval``.  Before 5.11 the count is the CPU's own,
``__kmap_atomic_idx``, and nobody notes what they hold.  Source: ``kmap_get_pte``, mm/highmem.c, 6.1 to 7.2;
``kmap_init``, arch/x86/mm/init_32.c, and ``kmap_atomic_idx_push``, include/linux/highmem.h, 5.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.broken import Broken
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.partial import Partial, known
from kvmtools.observe.per_cpu import configured_cpus, integer_at, online_cpus, physical_ranges
from kvmtools.observe.structure import Structure
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Range

_TASK = "struct task_struct"
_FIRST, _LAST = "FIX_KMAP_BEGIN", "FIX_KMAP_END"
_CPU_DEPTH = "__kmap_atomic_idx"


@dataclass(frozen=True, eq=False)
class KmapStack:
    """How many slots a CPU uses, the innermost mapping last."""

    cpu: int
    online: bool
    task: int | None = None
    """``struct task_struct`` of the task that runs there; ``None`` on a CPU that is not online."""
    depth: int | None = None
    """The task's ``kmap_ctrl.idx``, before 5.11 the CPU's ``__kmap_atomic_idx``; ``None`` on a CPU that is not online,
    or if the kernel keeps no such count."""
    expected: NDArray[np.uint64] | None = None
    """``kmap_ctrl.pteval``: what the slots below ``depth`` must hold; ``None`` where no task has such a note."""


@dataclass(frozen=True, eq=False)
class KmapLocal(Partial):
    """The slots of all CPUs as columns of shape ``(KM_MAX_IDX * NR_CPUS,)``, in the order in which they are counted.

    Without a row if the kernel has none, or (5.11 and later) none was used since it booted: it looks for the first
    entry when it first needs one.
    """

    ptes: NDArray[np.uint64]
    """Raw entries."""
    entries_physical: NDArray[np.uint64]
    """Where each entry lies; they descend."""
    cpus: tuple[KmapStack, ...]
    """Of every CPU that the kernel was configured for."""


def kmap_fixed_addresses(vmlinux: Vmlinux) -> Range | None:
    """The slots of all CPUs, counted from the top of the fixmap; ``None`` if the kernel has none."""
    fixed = vmlinux.enumerators("fixed_addresses")
    if _FIRST not in fixed:
        return None
    return Range(fixed[_FIRST], fixed[_LAST] + 1)


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_kmap_local` reads."""
    if not kmap_fixed_addresses(kernel.vmlinux):
        return
    lowest, count = _entries(kernel)
    if count:
        start = kernel.physical(lowest)
        yield Range(start, start + count * kernel.vmlinux.sizeof("pte_t"))
    for cpu in online_cpus(kernel):
        yield from physical_ranges(kernel, _current_pointer(kernel, cpu), kernel.architecture.word_size)
        yield from physical_ranges(kernel, _current(kernel, cpu), kernel.vmlinux.sizeof(_TASK))
        if _cpu_counts(kernel):
            yield from physical_ranges(kernel, kernel.per_cpu(kernel.address(_CPU_DEPTH), cpu), 4)


def observe_kmap_local(kernel: Kernel, broken: list[Broken] | None = None) -> KmapLocal:
    """The slots, and who is in them.

    :param broken: takes what of a CPU's task cannot be read
    :raises MemoryFault: if the entries were not captured
    """
    if not kmap_fixed_addresses(kernel.vmlinux):
        return KmapLocal(np.empty(0, np.uint64), np.empty(0, np.uint64), ())
    size = kernel.vmlinux.sizeof("pte_t")
    lowest, count = _entries(kernel)
    ascending = kernel.array(lowest, f"<u{size}", count) if count else np.empty(0)
    places = (kernel.physical(lowest) if count else 0) + size * np.arange(count)
    return KmapLocal(
        ptes=ascending[::-1].astype(np.uint64),
        entries_physical=places[::-1].astype(np.uint64),
        cpus=known(lambda: _stacks(kernel), "kmap_local", broken),
    )


def _entries(kernel: Kernel) -> tuple[int, int]:
    """Virtual address of the last slot's entry, which is the lowest, and how many there are."""
    slots = kmap_fixed_addresses(kernel.vmlinux)
    first = kernel.variable(kernel.vmlinux.which_symbol("__kmap_pte", "kmap_pte"))
    if not first or not slots:
        return 0, 0
    return first - (len(slots) - 1) * kernel.vmlinux.sizeof("pte_t"), len(slots)


def _stacks(kernel: Kernel) -> tuple[KmapStack, ...]:
    online = online_cpus(kernel)
    return tuple(_stack(kernel, cpu, cpu in online) for cpu in range(configured_cpus(kernel)))


def _stack(kernel: Kernel, cpu: int, online: bool) -> KmapStack:
    if not online:
        return KmapStack(cpu, online)
    task, depth, expected = _current(kernel, cpu), None, None
    if _task_counts(kernel):
        record = Structure(kernel, _TASK, task)
        depth = record.signed("kmap_ctrl.idx")
        entry = f"<u{kernel.vmlinux.sizeof('pte_t')}"
        expected = np.frombuffer(record.raw("kmap_ctrl.pteval"), entry).astype(np.uint64)
    elif _cpu_counts(kernel):
        depth = integer_at(kernel, kernel.per_cpu(kernel.address(_CPU_DEPTH), cpu), 4, signed=True)
    return KmapStack(cpu, online, task, depth, expected)


def _task_counts(kernel: Kernel) -> bool:
    return kernel.vmlinux.has_member(_TASK, "kmap_ctrl.idx")


def _cpu_counts(kernel: Kernel) -> bool:
    return not _task_counts(kernel) and kernel.vmlinux.has_symbol(_CPU_DEPTH)


def _current_pointer(kernel: Kernel, cpu: int) -> int:
    """Where the CPU keeps its current task: ``current_task``, since 6.2 a member of ``pcpu_hot``."""
    if kernel.vmlinux.which_symbol("current_task", "pcpu_hot") == "current_task":
        return kernel.per_cpu(kernel.address("current_task"), cpu)
    return kernel.per_cpu(kernel.address("pcpu_hot"), cpu) + kernel.vmlinux.offset(
        "struct pcpu_hot", "current_task"
    )


def _current(kernel: Kernel, cpu: int) -> int:
    return integer_at(kernel, _current_pointer(kernel, cpu), 4)

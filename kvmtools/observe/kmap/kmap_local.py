"""The fixmap slots through which each CPU shows pages to itself: ``kmap_local_page()`` and ``kmap_atomic()``.

Slots count down from ``FIXADDR_TOP``; CPU n owns ``KM_MAX_IDX`` of them, its current task uses the first
``kmap_ctrl.idx``, and what each must hold is in ``kmap_ctrl.pteval``.  Before 5.11 the count is the CPU's own,
``__kmap_atomic_idx``, and nobody notes what they hold.  Source: mm/highmem.c (``__kmap_local_pfn_prot``),
arch/x86/include/asm/fixmap.h, 6.1; ``kmap_atomic_idx_push`` in include/linux/highmem.h, 5.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.architecture import Words
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.per_cpu import configured_cpus, integer_at, online_cpus, physical_ranges
from kvmtools.observe.structure import Structure
from kvmtools.records import PAGE_SIZE, Range

_TASK = "struct task_struct"
_FIRST, _LAST = "FIX_KMAP_BEGIN", "FIX_KMAP_END"
_CPU_DEPTH = "__kmap_atomic_idx"


@dataclass(frozen=True, eq=False)
class KmapLocal:
    """The slots of one CPU, by index from 0; columns of shape ``(KM_MAX_IDX,)``."""

    cpu: int
    online: bool
    addresses: Words
    """Virtual address of each slot; they descend."""
    ptes: NDArray[np.uint64]
    """Raw entries."""
    entries_physical: NDArray[np.uint64]
    """Where each entry lies."""
    task: int | None
    """``struct task_struct`` of the task that runs there; ``None`` on a CPU that is not online."""
    depth: int | None
    """How many slots are in use: the task's ``kmap_ctrl.idx``, before 5.11 the CPU's ``__kmap_atomic_idx``; ``None`` on
    a CPU that is not online, or if the kernel keeps no such count."""
    expected: NDArray[np.uint64] | None
    """``kmap_ctrl.pteval``: what the slots below ``depth`` must hold; ``None`` where no task has such a note."""


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_kmap_local` reads."""
    if not _slots(kernel):
        return
    tables = {place & -PAGE_SIZE for place in _places(kernel, _addresses(kernel)) if place is not None}
    yield from (Range(table, table + PAGE_SIZE) for table in sorted(tables))
    for cpu in online_cpus(kernel):
        yield from physical_ranges(kernel, _current_pointer(kernel, cpu), kernel.architecture.word_size)
        yield from physical_ranges(kernel, _current(kernel, cpu), kernel.vmlinux.sizeof(_TASK))
        if _cpu_counts(kernel):
            yield from physical_ranges(kernel, kernel.per_cpu(kernel.address(_CPU_DEPTH), cpu), 4)


def observe_kmap_local(kernel: Kernel) -> tuple[KmapLocal, ...]:
    """The slots of every CPU that the kernel was configured for; none if it has no such slots.

    :raises MemoryFault: if a part was not captured
    """
    slots = _slots(kernel)
    if not slots:
        return ()
    online = online_cpus(kernel)
    addresses = _addresses(kernel)
    places = _places(kernel, addresses)
    cuts = [slice(first, first + slots) for first in range(0, len(addresses), slots)]
    return tuple(
        _of_cpu(kernel, cpu, addresses[cut], places[cut], cpu in online) for cpu, cut in enumerate(cuts)
    )


def _of_cpu(
    kernel: Kernel, cpu: int, addresses: list[int], places: list[int | None], online: bool
) -> KmapLocal:
    size = kernel.vmlinux.sizeof("pte_t")
    entries = [0 if at is None else int.from_bytes(kernel.memory.read(at, size), "little") for at in places]
    task = _current(kernel, cpu) if online else None
    depth, expected = None, None
    if task is not None and _task_counts(kernel):
        record = Structure(kernel, _TASK, task)
        depth = record.signed("kmap_ctrl.idx")
        expected = np.frombuffer(record.raw("kmap_ctrl.pteval"), f"<u{size}").astype(np.uint64)
    elif online and _cpu_counts(kernel):
        depth = integer_at(kernel, kernel.per_cpu(kernel.address(_CPU_DEPTH), cpu), 4, signed=True)
    return KmapLocal(
        cpu=cpu,
        online=online,
        addresses=np.array(addresses, kernel.architecture.word),
        ptes=np.array(entries, np.uint64),
        entries_physical=np.array([0 if at is None else at for at in places], np.uint64),
        task=task,
        depth=depth,
        expected=expected,
    )


def _task_counts(kernel: Kernel) -> bool:
    return kernel.vmlinux.has_member(_TASK, "kmap_ctrl.idx")


def _cpu_counts(kernel: Kernel) -> bool:
    return not _task_counts(kernel) and kernel.vmlinux.has_symbol(_CPU_DEPTH)


def _slots(kernel: Kernel) -> int:
    """``KM_MAX_IDX`` (before 5.11 ``KM_TYPE_NR``): slots of one CPU; 0 if there are none.

    Both are macros: what DWARF has is the room for all CPUs, ``FIX_KMAP_BEGIN`` to ``FIX_KMAP_END``.
    """
    if not kernel.vmlinux.has_constant(_FIRST):
        return 0
    return _total(kernel) // configured_cpus(kernel)


def _total(kernel: Kernel) -> int:
    """Slots of all CPUs."""
    fixed = kernel.vmlinux.enumerators("fixed_addresses")
    return fixed[_LAST] - fixed[_FIRST] + 1


def _addresses(kernel: Kernel) -> list[int]:
    """``__fix_to_virt(FIX_KMAP_BEGIN + index)``; ``FIXADDR_TOP`` is a variable that ``reservetop=`` moves."""
    first = kernel.vmlinux.enumerators("fixed_addresses")[_FIRST]
    top = kernel.variable("__FIXADDR_TOP")
    return [
        (top - (first + index) * PAGE_SIZE) % kernel.architecture.address_end
        for index in range(_total(kernel))
    ]


def _places(kernel: Kernel, addresses: list[int]) -> list[int | None]:
    """Where the entry of each address lies; ``None`` if there is no page table for it."""
    size = kernel.vmlinux.sizeof("pte_t")
    entries = PAGE_SIZE // size
    tables: dict[int, int | None] = {}
    places: list[int | None] = []
    for address in addresses:
        number, index = divmod(address // PAGE_SIZE, entries)
        if number not in tables:
            last = translate(kernel.memory, kernel.root, address, kernel.paging).steps[-1]
            tables[number] = last.table if last.level == 1 else None
        table = tables[number]
        places.append(None if table is None else table + index * size)
    return places


def _current_pointer(kernel: Kernel, cpu: int) -> int:
    """Where the CPU keeps its current task: ``current_task``, since 6.2 a member of ``pcpu_hot``."""
    if kernel.vmlinux.which_symbol("current_task", "pcpu_hot") == "current_task":
        return kernel.per_cpu(kernel.address("current_task"), cpu)
    return kernel.per_cpu(kernel.address("pcpu_hot"), cpu) + kernel.vmlinux.offset(
        "struct pcpu_hot", "current_task"
    )


def _current(kernel: Kernel, cpu: int) -> int:
    return integer_at(kernel, _current_pointer(kernel, cpu), 4)

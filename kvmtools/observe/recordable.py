"""What a recording has beside what the observers read: the CPUs' page tables and stacks, the kernel's name and log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from kvmtools.errors import MemoryFault, Unobserved
from kvmtools.observe.capture import keep_tables
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kernel_log import read_log
from kvmtools.observe.paging.walk import Walk
from kvmtools.observe.space.modules import observe_modules
from kvmtools.records import PAGE_SIZE, Range, Registers

if TYPE_CHECKING:
    from kvmtools.attach.general_registers import GeneralRegisters
    from kvmtools.attach.memory.snapshot import Snapshot

#: ``THREAD_SIZE``, arch/x86/include/asm/page_32_types.h.
_STACK = 2 * PAGE_SIZE
#: What tells a kernel from others, and how long: whoever opens a core looks there first.
_IDENTITY = (("linux_banner", 512), ("init_uts_ns", 512))


def keep_cpus(
    kernel: Kernel, snapshot: Snapshot, registers: Iterable[Registers], general: Iterable[GeneralRegisters]
) -> None:
    """Read every CPU's page tables and stack.

    :param kernel: in ``snapshot``, which keeps what is read
    """
    keep_tables(snapshot, kernel, [one.cr3 for one in registers if one.paged])
    for cpu in general:
        for page in range(cpu.esp & -_STACK, (cpu.esp & -_STACK) + _STACK, PAGE_SIZE):
            with suppress(MemoryFault):
                kernel.view(page, PAGE_SIZE)


def keep_what_is_asked(kernel: Kernel) -> None:
    """Read what says which kernel it is, what it printed, and the modules: whoever names an address asks for them."""
    for read in (read_log, observe_modules):
        with suppress(Unobserved):
            read(kernel)
    for symbol, size in _IDENTITY:
        with suppress(Unobserved):
            kernel.read(kernel.address(symbol), size)
    with suppress(Unobserved):
        start = kernel.address("__start_notes")
        kernel.read(start, kernel.address("__stop_notes") - start)


def mapped_at(kernel: Kernel, walk: Walk, captured: Sequence[Range]) -> list[tuple[int, Range]]:
    """Where the kernel maps what was captured, sorted by physical address: the linear map, and all else behind it.

    :param walk: of the kernel's own page tables
    :param captured: physical, sorted and disjoint
    """
    end = kernel.lowmem_end - kernel.page_offset
    linear = [
        (each.start + kernel.page_offset, Range(each.start, min(each.end, end)))
        for each in captured
        if each.start < end
    ]
    return sorted([*linear, *_elsewhere(kernel, walk, captured)], key=lambda place: place[1])


def _elsewhere(kernel: Kernel, walk: Walk, captured: Sequence[Range]) -> Iterator[tuple[int, Range]]:
    """The parts of the kernel's other mappings (vmalloc, pkmap, fixmap) that were captured."""
    rows = np.flatnonzero(walk.virtual >= kernel.lowmem_end)
    virtual, physical, size = (column[rows] for column in (walk.virtual, walk.physical, walk.size))
    follows = (virtual[1:] == virtual[:-1] + size[:-1]) & (physical[1:] == physical[:-1] + size[:-1])
    first = np.flatnonzero(np.append(True, ~follows)) if len(rows) else np.zeros(0, np.intp)
    last = np.append(first[1:] - 1, len(rows) - 1)
    starts = np.array([each.start for each in captured], np.uint64)
    ends = np.array([each.end for each in captured], np.uint64)
    for one, other in zip(first.tolist(), last.tolist(), strict=False):
        start, end = int(physical[one]), int(physical[other] + size[other])
        for index in range(
            int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end, "left"))
        ):
            part = Range(max(start, captured[index].start), min(end, captured[index].end))
            yield int(virtual[one]) + part.start - start, part

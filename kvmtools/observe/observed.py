"""Everything that was observed of one guest at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmtools.errors import MemoryFault
from kvmtools.observe.capture import Capture, prepare
from kvmtools.observe.configuration import observe_configuration
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap_local import KmapLocal, observe_kmap_local
from kvmtools.observe.layout import kernel_walk, observe_layout
from kvmtools.observe.memmap import MemMap, observe_memmap
from kvmtools.observe.paging import Walk, walk
from kvmtools.observe.pkmap import Pkmap, observe_pkmap
from kvmtools.observe.processes import Process, observe_processes
from kvmtools.observe.ram import Ram, observe_ram
from kvmtools.observe.zones import Zone, observe_zones
from kvmtools.records import Configuration, Layout, Registers

if TYPE_CHECKING:
    from kvmtools.attach.memory import PhysicalMemory

__all__ = ["Capture", "Observed", "observe", "prepare"]


@dataclass(frozen=True, eq=False)
class Observed:
    """One guest at one moment: ``kernel`` reads the snapshot that all the rest was decoded from."""

    kernel: Kernel
    configuration: Configuration
    layout: Layout
    registers: tuple[Registers, ...]
    walk: Walk
    """The kernel's own page tables, ``swapper_pg_dir``."""
    processes: tuple[Process, ...]
    user_walks: Mapping[int, Walk]
    """By pid, the user half (below ``PAGE_OFFSET``) of each process's page tables; empty if not asked for."""
    memmap: MemMap
    pkmap: Pkmap | None
    """``None`` if the kernel has no HIGHMEM."""
    kmap_local: tuple[KmapLocal, ...]
    zones: tuple[Zone, ...]
    ram: Ram


def observe(kernel: Kernel, memory: PhysicalMemory, registers: tuple[Registers, ...] = ()) -> Observed:
    """Decode what was captured; the guest may have run on long since.

    :param memory: the snapshot that :meth:`Capture.take` gave, or a memory that holds still (a core)
    :raises MemoryFault: if something that is read was not captured, or the kernel's lists lead outside RAM
    """
    kernel = kernel.with_memory(memory)
    tables = kernel_walk(kernel)
    pages = observe_memmap(kernel)
    found = observe_processes(kernel)
    return Observed(
        kernel=kernel,
        configuration=observe_configuration(kernel),
        layout=observe_layout(kernel, tables),
        registers=registers,
        walk=tables,
        processes=found,
        user_walks=_user_walks(kernel, found),
        memmap=pages,
        pkmap=observe_pkmap(kernel, tables.tables),
        kmap_local=observe_kmap_local(kernel),
        zones=observe_zones(kernel, pages),
        ram=observe_ram(kernel),
    )


def _user_walks(kernel: Kernel, found: tuple[Process, ...]) -> dict[int, Walk]:
    walks = {}
    for process in found:
        # What was not captured was not asked for.
        with suppress(MemoryFault):
            walks[process.pid] = walk(kernel.memory, process.pgd, pae=kernel.pae, end=kernel.page_offset)
    return walks

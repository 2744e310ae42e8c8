"""Everything that was observed of one guest at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from kvmtools.errors import MemoryFault, NotYet, Unobserved
from kvmtools.observe.boot.configuration import observe_configuration
from kvmtools.observe.boot.ram import RamMaps, observe_ram
from kvmtools.observe.broken import Broken, add_broken, reading
from kvmtools.observe.capture import Capture, prepare
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap.kmap_local import KmapLocal, observe_kmap_local
from kvmtools.observe.kmap.pkmap import Pkmap, observe_pkmap
from kvmtools.observe.pages.memmap import MemMap, observe_memmap
from kvmtools.observe.paging.walk import Walk, walk
from kvmtools.observe.processor import seen_by_processor
from kvmtools.observe.progress import setting_up
from kvmtools.observe.space.kexec import observe_control_pages
from kvmtools.observe.space.layout import kernel_walk, observe_layout
from kvmtools.observe.tasks.processes import Process, observe_processes
from kvmtools.observe.zones.zones import Zone, observe_zones
from kvmtools.records import Configuration, Layout, Registers

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory

__all__ = ["PARTS", "Capture", "Observed", "observe", "prepare"]

T = TypeVar("T")


def _part(structure: str) -> Callable[[Callable[[Observed], T]], cached_property[T]]:
    """A part that is decoded once; one that cannot be is noted, and its fault raised whenever it is asked for.

    :param structure: what is read for it, for a person
    """

    def decorate(decode: Callable[[Observed], T]) -> cached_property[T]:
        def decoded(seen: Observed) -> T:
            try:
                with reading(structure):
                    return decode(seen)
            except MemoryFault as fault:
                if where := setting_up(seen.kernel, seen.registers):
                    raise NotYet(f"the kernel is still booting, {where}: {fault}") from fault
                add_broken(seen.broken, structure, fault)
                raise

        decoded.__doc__ = decode.__doc__
        return cached_property(decoded)

    return decorate


@dataclass(frozen=True, eq=False)
class Observed:
    """One guest at one moment: ``kernel`` reads the snapshot that all the rest is decoded from.

    :raises Unobserved: from any part, if nothing of it can be had; what can be read of a part that is damaged is
        there, and ``broken`` says what is not
    """

    kernel: Kernel
    registers: tuple[Registers, ...] = ()
    broken: list[Broken] = field(default_factory=list)

    @_part("configuration")
    def configuration(self) -> Configuration:
        """What the model is told."""
        return observe_configuration(self.kernel, self.broken)

    @_part("page tables")
    def walk(self) -> Walk:
        """The kernel's own page tables, ``swapper_pg_dir``."""
        return kernel_walk(self.kernel)

    @_part("layout")
    def layout(self) -> Layout:
        """The boundaries of the address space."""
        return observe_layout(self.kernel, self.walk, self.broken)

    @_part("task list")
    def processes(self) -> tuple[Process, ...]:
        """Every process with an address space of its own."""
        return observe_processes(self.kernel, self.broken)

    @_part("page tables of processes")
    def user_walks(self) -> Mapping[int, Walk]:
        """By pid, the user half (below ``PAGE_OFFSET``) of each process's page tables; empty if not asked for."""
        walks, kernel = {}, self.kernel
        for process in self.processes:
            # What was not captured was not asked for.
            with suppress(MemoryFault):
                walks[process.pid] = walk(kernel.memory, process.pgd, kernel.paging, end=kernel.page_offset)
        return walks

    @_part("mem_map")
    def memmap(self) -> MemMap:
        """Every ``struct page``."""
        return observe_memmap(self.kernel)

    @_part("pkmap")
    def pkmap(self) -> Pkmap | None:
        """``None`` if the kernel has no HIGHMEM."""
        return observe_pkmap(self.kernel, lambda: self.walk.tables, self.broken)

    @_part("kmap_local")
    def kmap_local(self) -> KmapLocal:
        """The CPUs' slots in the fixmap."""
        return observe_kmap_local(self.kernel, self.broken)

    @_part("kexec images")
    def control_pages(self) -> tuple[int, ...]:
        """Addresses of the ``struct page`` of loaded kexec images' control pages."""
        return observe_control_pages(self.kernel)

    @_part("zones")
    def zones(self) -> tuple[Zone, ...]:
        """In the order of ``enum zone_type``."""
        return observe_zones(self.kernel, lambda: self.memmap, self.broken)

    @_part("RAM map")
    def ram(self) -> RamMaps:
        """Where the kernel's books have RAM."""
        return observe_ram(self.kernel, self.broken)


PARTS = tuple(name for name, value in vars(Observed).items() if isinstance(value, cached_property))
"""The parts of an observation."""


def observe(kernel: Kernel, memory: PhysicalMemory, registers: tuple[Registers, ...] = ()) -> Observed:
    """Decode what was captured; the guest may have run on long since.

    :param memory: the snapshot that :meth:`Capture.take` gave, or a memory that holds still (a core)
    """
    seen = Observed(seen_by_processor(kernel.with_memory(memory), registers), registers)
    for part in PARTS:
        with suppress(Unobserved):
            getattr(seen, part)
    return seen

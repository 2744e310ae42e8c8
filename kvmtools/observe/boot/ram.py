"""Where the guest has RAM, as its kernel was told and as it wrote it down: e820, memblock, /proc/iomem.

Source: arch/x86/kernel/e820.c, include/linux/memblock.h, kernel/resource.c (6.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from kvmtools.errors import MemoryFault, Unobserved
from kvmtools.observe.boot import resources
from kvmtools.observe.boot.resources import Resource, observe_resources
from kvmtools.observe.broken import Broken
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.partial import Partial, known
from kvmtools.observe.structure import Structure
from kvmtools.records import PAGE_SHIFT, E820Entry, Range

T = TypeVar("T")

_TABLE = "struct e820_table"
_ENTRY = "struct e820_entry"
_REGION = "struct memblock_region"
SYSTEM_RAM = "System RAM"
# INIT_MEMBLOCK_REGIONS is 128, and the array doubles when it is full; a larger count is none.
_MOST_REGIONS = 1 << 16


@dataclass(frozen=True)
class RamMaps(Partial):
    """The guest's RAM in physical addresses, from three books that the kernel keeps."""

    e820: tuple[E820Entry, ...]
    """``e820_table``: the firmware's map after the kernel's own corrections (``mem=``, the BIOS area)."""
    firmware_e820: tuple[E820Entry, ...]
    """``e820_table_firmware``: the map as the firmware gave it."""
    memblock: tuple[Range, ...] | None
    """``memblock.memory``; ``None`` if the kernel has given it back: on x86 it is ``__initdata``."""
    resources: tuple[Resource, ...]
    """Every line of /proc/iomem."""

    @property
    def system_ram(self) -> tuple[Range, ...]:
        """ "System RAM" of /proc/iomem, by address, byte granular."""
        return tuple(Range(each.start, each.end) for each in self.resources if each.name == SYSTEM_RAM)

    @property
    def pages(self) -> tuple[Range, ...]:
        """pfns of the whole pages of :attr:`system_ram`."""
        # Neighbours are joined first: a boot loader's data in RAM is a line of its own, its borders at any byte.
        joined: list[Range] = []
        for each in self.system_ram:
            if joined and joined[-1].end == each.start:
                joined[-1] = Range(joined[-1].start, each.end)
            else:
                joined.append(each)
        whole = (Range(-(-each.start >> PAGE_SHIFT), each.end >> PAGE_SHIFT) for each in joined)
        return tuple(each for each in whole if each.start < each.end)

    @property
    def holes(self) -> tuple[Range, ...]:
        """pfns between and below :attr:`pages`."""
        edges = [0, *(edge for each in self.pages for edge in (each.start, each.end))]
        gaps = zip(edges[0::2], edges[1::2], strict=False)
        return tuple(Range(start, end) for start, end in gaps if start < end)


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_ram` reads."""
    for pointer in ("e820_table", "e820_table_firmware"):
        with suppress(Unobserved):
            record = _e820(kernel, pointer)
            start = kernel.physical(record.address)
            yield Range(start, start + len(record.data))
    with suppress(Unobserved):
        for address, size in _memblock_extents(kernel):
            start = kernel.physical(address)
            yield Range(start, start + size)
    yield from resources.needs(kernel)


def observe_ram(kernel: Kernel, broken: list[Broken] | None = None) -> RamMaps:
    """Read all three.

    :param broken: takes what cannot be reached
    """

    def told(read: Callable[[], T]) -> T:
        return known(read, "RAM map", broken)

    return RamMaps(
        e820=told(lambda: observe_e820(kernel, "e820_table")),
        firmware_e820=told(lambda: observe_e820(kernel)),
        memblock=told(lambda: _memblock(kernel)),
        resources=told(lambda: observe_resources(kernel, broken)),
    )


def observe_e820(kernel: Kernel, table: str = "e820_table_firmware") -> tuple[E820Entry, ...]:
    """One of the kernel's three e820 tables, by the name of the pointer to it.

    :raises SymbolsError: if this kernel has no such table
    """
    return _entries(_e820(kernel, table))


def _e820(kernel: Kernel, pointer: str) -> Structure:
    return Structure(kernel, _TABLE, kernel.variable(pointer))


def _entries(table: Structure) -> tuple[E820Entry, ...]:
    vmlinux = table.vmlinux
    first, size = vmlinux.offset(_TABLE, "entries"), vmlinux.sizeof(_ENTRY)
    places = {
        name: (vmlinux.offset(_ENTRY, name), vmlinux.sizeof(_ENTRY, name))
        for name in ("addr", "size", "type")
    }

    def field(index: int, name: str) -> int:
        offset, width = places[name]
        start = first + index * size + offset
        return int.from_bytes(table.data[start : start + width], "little")

    count, room = table.unsigned("nr_entries"), vmlinux.array_length(_TABLE, "entries")
    if count > room:
        raise MemoryFault(
            table.address, f"an e820 table of {count} entries with room for {room}", space="virtual"
        )
    return tuple(E820Entry(field(i, "addr"), field(i, "size"), field(i, "type")) for i in range(count))


def _memblock_extents(kernel: Kernel) -> list[tuple[int, int]]:
    """Virtual address and size of ``struct memblock`` and of the array of its memory regions; none once freed."""
    vmlinux = kernel.vmlinux
    if not vmlinux.has_symbol("memblock"):
        return []
    address = kernel.address("memblock")
    if kernel.address("__init_begin") <= address < kernel.address("__init_end") and _init_is_over(kernel):
        return []
    memory = Structure(kernel, "struct memblock", address)
    count = memory.unsigned("memory.cnt")
    if count > _MOST_REGIONS:
        raise MemoryFault(address, f"memblock.memory claims {count:,} regions", space="virtual")
    return [
        (address, len(memory.data)),
        (memory.unsigned("memory.regions"), count * vmlinux.sizeof(_REGION)),
    ]


def _init_is_over(kernel: Kernel) -> bool:
    """Whether the memory of ``__init`` was given to the buddy system (``free_initmem``, init/main.c)."""
    states = kernel.vmlinux.enumerators("system_states")
    freeing = states.get("SYSTEM_FREEING_INITMEM", states["SYSTEM_RUNNING"])
    return kernel.variable("system_state") >= freeing


def _memblock(kernel: Kernel) -> tuple[Range, ...] | None:
    extents = _memblock_extents(kernel)
    if not extents:
        return None
    address, size = extents[1]
    stride = kernel.vmlinux.sizeof(_REGION)
    regions = [Structure(kernel, _REGION, address + at) for at in range(0, size, stride)]
    return tuple(Range(r.unsigned("base"), r.unsigned("base") + r.unsigned("size")) for r in regions)

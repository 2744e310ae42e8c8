"""A machine that nobody has booted: a :class:`~kvmtools.records.Configuration` without a guest.

What a guest would show in its DWARF is, unless it is given, that of an *ordinary build* of the era: SMP, with local and
I/O APICs.  The machine is QEMU's "pc".  Sizes by era are in :mod:`kvmtools.model.eras`.

Source: arch/x86/include/asm/fixmap.h (2.6.32 to 7.2) and asm-i386/fixmap.h (before) for the two ends of the fixmap;
QEMU hw/i386/pc_piix.c for the places where RAM ends below 4 GiB.
"""

from __future__ import annotations

from kvmtools.errors import UsageError
from kvmtools.model import boot_features, eras
from kvmtools.model.memory.ram import RAM, RESERVED
from kvmtools.records import Configuration, E820Entry, Image

_MIB = 1 << 20
_GIB = 1 << 30

_SECTIONS = {
    "_text": 0x000000,
    "_etext": 0x700000,
    "__start_rodata": 0x700000,
    "__end_rodata": 0xA00000,
    "_sdata": 0xA00000,
    "_edata": 0xB00000,
    "__init_begin": 0xB00000,
    "__init_end": 0xBF0000,
    "__bss_start": 0xC00000,
    "idt_table": 0xC10000,
    "__bss_stop": 0xCC0000,
    "__brk_base": 0xCC0000,
    "__brk_limit": 0xCD0000,
    "_end": 0xCD0000,
}
"""Where the sections of a middling image begin, from its own start."""


_OLD_IMAGES = 4
"""Images that lie at 1 MiB were about a quarter of that: 2.4 runs in 8 MiB."""


def configuration(
    era: str = "6.1",
    *,
    pae: bool = True,
    memory: int | None = None,
    e820: tuple[E820Entry, ...] | None = None,
    page_offset: int = 0xC0000000,
    nr_cpus: int = 4,
    highmem: bool = True,
    sparsemem: bool = False,
    command_line: str = "",
    page_struct_size: int | None = None,
    cpu_entry_area_size: int | None = None,
    fixmap_slots: tuple[int, int] | None = None,
    pti: bool = False,
    zone_dma: bool = True,
) -> Configuration:
    """The configuration of a kernel of that era on a machine with ``memory`` bytes, or with the map ``e820``.

    :param era: one of :data:`kvmtools.model.ERAS`
    :param memory: RAM in bytes; 4 GiB if neither it nor ``e820``, the firmware's map, is given
    :param page_offset: ``PAGE_OFFSET``, a virtual address
    :param command_line: the kernel's; the model follows what the era's kernel would
    :param page_struct_size: bytes; like ``cpu_entry_area_size`` and the next, the era's own if not given
    :param fixmap_slots: ``(__end_of_permanent_fixed_addresses, __end_of_fixed_addresses)``
    :param pti: page-table isolation, where ``command_line`` leaves it to the processor
    :raises UsageError: if there is no era of that name, or the size of RAM is said twice
    """
    row = eras.named(era)
    if memory is not None and e820 is not None:
        raise UsageError("memory's size and its map both say how much RAM there is", hint="give one of them")
    if e820 is None:
        e820 = e820_of(4 * _GIB if memory is None else memory)
    without = {"HIGHMEM": not highmem, "DMA": not zone_dma}
    mode = boot_features.pti_mode(command_line, row)
    permanent, end = fixmap_slots or row.fixmap(nr_cpus, pae=pae, highmem=highmem)
    return Configuration(
        pae=pae,
        page_offset=page_offset,
        nr_cpus=nr_cpus,
        highmem=highmem,
        pti=(pti or pae) if mode == boot_features.ON else pti and mode != boot_features.OFF,
        nx=pae and row.nx and not boot_features.nx_disabled(command_line, row),
        pge=True,
        pse=True,
        physical_bits=36 if pae else 32,
        page_struct_size=row.page_struct_size if page_struct_size is None else page_struct_size,
        cpu_entry_area_size=row.cpu_entry_area_size if cpu_entry_area_size is None else cpu_entry_area_size,
        end_of_permanent_fixed_addresses=permanent,
        end_of_fixed_addresses=end,
        zone_names=tuple(name for name in row.zone_names if not without.get(name)),
        sparsemem=sparsemem,
        max_order=row.max_order,
        debug_pagealloc=False,
        command_line=command_line,
        e820=e820,
        image=_image(page_offset + row.image_at, 1 if row.image_at > _MIB else _OLD_IMAGES),
        marks=_marks(row.name),
    )


def _image(start: int, shrunk: int) -> Image:
    """An image that begins at ``start``, that many times smaller than a middling one."""
    return Image(0, {name: start + offset // shrunk for name, offset in _SECTIONS.items()})


def e820_of(memory: int) -> tuple[E820Entry, ...]:
    """The map that QEMU's "pc" and SeaBIOS hand over: from 3.5 GiB of RAM on, what exceeds 3 GiB lies above 4 GiB.

    :raises UsageError: if there is not even a MiB and the 128 KiB of the firmware's tables
    """
    if memory <= _MIB + 0x20000:
        raise UsageError(
            f"{memory} bytes of RAM are too few for a PC", hint="kernels of every era boot with 64M"
        )
    low = memory if memory < 3584 * _MIB else 3 * _GIB
    entries = [
        E820Entry(0, 0x9FC00, RAM),
        E820Entry(0x9FC00, 0x400, RESERVED),
        E820Entry(0xF0000, 0x10000, RESERVED),
        E820Entry(_MIB, low - 0x20000 - _MIB, RAM),
        E820Entry(low - 0x20000, 0x20000, RESERVED),
        E820Entry(0xFFFC0000, 0x40000, RESERVED),
    ]
    if low < memory:
        entries.append(E820Entry(4 * _GIB, memory - low, RAM))
    return tuple(entries)


def _marks(era: str) -> frozenset[str]:
    """What a kernel of that era shows: its own marks and those of all before it."""
    return frozenset(
        mark for name in eras.NAMES[: eras.NAMES.index(era) + 1] for mark in eras.named(name).marks
    )

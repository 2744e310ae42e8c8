"""``configure``: the two small 6.1 kernels that FACTS measured, to be varied field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.model import eras
from kvmtools.records import Configuration, E820Entry, Image

MIB = 1 << 20
GIB = 1 << 30
SIX_ONE = frozenset().union(*(eras.named(name).marks for name in eras.NAMES[: eras.NAMES.index("6.1") + 1]))


def e820(memory: int) -> tuple[E820Entry, ...]:
    """The map of QEMU's "pc" machine with ``memory`` bytes; its PCI hole begins at 3 GiB."""
    low = memory if memory < 3584 * MIB else 3 * GIB
    entries = [
        E820Entry(0, 0x9FC00, 1),
        E820Entry(0x9FC00, 0x400, 2),
        E820Entry(0xF0000, 0x10000, 2),
        E820Entry(0x100000, low - 0x20000 - 0x100000, 1),
        E820Entry(low - 0x20000, 0x20000, 2),
        E820Entry(0xFFFC0000, 0x40000, 2),
    ]
    if low < memory:
        entries.append(E820Entry(4 * GIB, memory - low, 1))
    return tuple(entries)


def configuration(
    pae: bool = True, memory: int = 2 * GIB, image_at: int = 16 * MIB, **changes: Any
) -> Configuration:
    """NR_CPUS=1, 20 permanent fixmap slots, 43 pages of CPU entry area, the image at 16 MiB."""
    base = changes.get("page_offset", 0xC0000000) + image_at
    sections = {
        "_text": 0x0,
        "_etext": 0x3FF123,
        "__start_rodata": 0x400000,
        "__end_rodata": 0x580000,
        "__init_begin": 0x5C0000,
        "__init_end": 0x640000,
        "__bss_start": 0x650000,
        "idt_table": 0x660000,
        "__bss_stop": 0x6F0000,
        "_end": 0x720000,
    }
    fields: dict[str, Any] = {
        "pae": pae,
        "page_offset": 0xC0000000,
        "nr_cpus": 1,
        "highmem": True,
        "pti": False,
        "nx": pae,
        "pge": True,
        "pse": True,
        "physical_bits": 36 if pae else 32,
        "page_struct_size": 32,
        "cpu_entry_area_size": 43 * 4096,
        "end_of_permanent_fixed_addresses": 20,
        "end_of_fixed_addresses": 1025 if pae else 533,
        "zone_names": ("DMA", "NORMAL", "HIGHMEM", "MOVABLE"),
        "sparsemem": False,
        "max_order": 11,
        "debug_pagealloc": False,
        "command_line": "",
        "e820": e820(memory),
        "image": Image(0, {name: base + offset for name, offset in sections.items()}),
        "marks": SIX_ONE,
    }
    return Configuration(**fields | changes)


@pytest.fixture(scope="session")
def configure() -> Callable[..., Configuration]:
    return configuration


@pytest.fixture(scope="session")
def map_of() -> Callable[[int], tuple[E820Entry, ...]]:
    return e820

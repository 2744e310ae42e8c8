"""Virtual mem_maps for tests, small enough to be worked by hand."""

from __future__ import annotations

from kernel_spaces import kernel_space

from kvmtools.model.memmaps.virtual_map import VirtualMap
from kvmtools.records import Range

RAM = Range(0, 0x8000)
"""128 MiB."""
START = 0xE0000000


def small(
    *added: Range, size: int = 32, leaf: int = 4096, pages: int = 0x20000, with_pae: bool = True
) -> VirtualMap:
    """A window at 0xe0000000 with room for 512 MiB, backed by 128 MiB of lowmem."""
    mem_map = VirtualMap(kernel_space(RAM, with_pae=with_pae), size, START, pages, leaf, [RAM])
    for r in added:
        mem_map.add(r.start, r.end)
    return mem_map

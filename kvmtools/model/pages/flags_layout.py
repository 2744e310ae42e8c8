"""Where ``page->flags`` keep section, node and zone.

Source: include/linux/page-flags-layout.h, arch/x86/include/asm/sparsemem.h, 5.10 to 7.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.records import Configuration

BITS_PER_LONG = 32


@dataclass(frozen=True, slots=True)
class FlagsLayout:
    """Where page->flags keeps section, node and zone; without NUMA, or if there is no room, the node takes no bits."""

    section_shift: int
    section_width: int
    zone_shift: int
    zone_width: int
    node_width: int = 0
    """The node lies between the two."""

    def zone(self, flags: int) -> int:
        """Index into ``enum zone_type``."""
        return flags >> self.zone_shift & ((1 << self.zone_width) - 1)

    def section(self, flags: int) -> int | None:
        """Section number; ``None`` with FLATMEM."""
        if not self.section_width:
            return None
        return flags >> self.section_shift

    def node(self, flags: int) -> int | None:
        """Node number; ``None`` if it is not kept here."""
        if not self.node_width:
            return None
        return flags >> self.zone_shift + self.zone_width & ((1 << self.node_width) - 1)


def flags_layout(configuration: Configuration) -> FlagsLayout:
    """From the top bit down: section, node, zone; the node's number is left out if it is not all that fits."""
    era = eras.shown(configuration.marks)
    zone_width = era.zone_flag_bits
    if zone_width is None:
        zone_width = (len(configuration.zone_names) - 1).bit_length()
    section_width = 0
    if configuration.sparsemem:
        size_bits, physical_bits = section_bits(configuration)
        section_width = physical_bits - size_bits
    node_width = (configuration.max_numnodes - 1).bit_length()
    # LRU_GEN_WIDTH = order_base_2(MAX_NR_GENS + 1): include/linux/page-flags-layout.h
    taken = configuration.nr_pageflags + configuration.lru_generations.bit_length()
    if section_width + node_width + zone_width > BITS_PER_LONG - taken:
        node_width = 0
    section_shift = BITS_PER_LONG - section_width
    zone_shift = section_shift - node_width - zone_width
    return FlagsLayout(section_shift, section_width, zone_shift, zone_width, node_width)


def section_bits(configuration: Configuration) -> tuple[int, int]:
    """``SECTION_SIZE_BITS`` and ``MAX_PHYSMEM_BITS``.

    :raises UsageError: if the era has no SPARSEMEM
    """
    era = eras.shown(configuration.marks)
    if era.section_size_bits is None:
        raise UsageError(f"{era.name} has no SPARSEMEM", hint="it came with 2.6.13")
    assert era.max_physmem_bits is not None
    return era.section_size_bits[configuration.pae], era.max_physmem_bits[configuration.pae]

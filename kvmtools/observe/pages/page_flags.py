"""How this kernel packs ``page->flags``: the named flags at the bottom, the links to zone and section on top.

The widths are macros (include/linux/page-flags-layout.h, 6.1), so DWARF does not have them.  What they are
computed from it does have: the number of zones, of nodes, of sections and of flags.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmtools.observe.symbols.vmlinux import Vmlinux


@dataclass(frozen=True)
class Field:
    """``width`` bits of ``page->flags`` from bit ``shift`` upwards; width 0 is a field that does not exist."""

    shift: int
    width: int

    @property
    def mask(self) -> int:
        """Mask of the value, once shifted down."""
        return (1 << self.width) - 1

    def of(self, flags: int) -> int:
        """The field's value in one page's flags."""
        return flags >> self.shift & self.mask


@dataclass(frozen=True)
class FlagLayout:
    """Bits and fields of ``page->flags``."""

    names: dict[str, int]
    """Bit number of every flag by its own name (``PG_reserved``), the lowest bit first; no aliases."""
    aliases: dict[str, int]
    """The enumeration's second names (``PG_swapcache``, ``PG_reported``): bits that mean more than one thing."""
    zone: Field
    node: Field
    section: Field

    def bit(self, *names: str) -> int:
        """The mask of the first of the flags that this kernel has, aliases included; 0 if it has none."""
        for name in names:
            for known in (self.names, self.aliases):
                if name in known:
                    return 1 << known[name]
        return 0

    def names_of(self, flags: int) -> tuple[str, ...]:
        """Names of the flags that are set, the lowest bit first."""
        return tuple(name for name, bit in self.names.items() if flags >> bit & 1)


def zone_names(vmlinux: Vmlinux) -> tuple[str, ...]:
    """``enum zone_type`` in order, without the prefix: ``("DMA", "NORMAL", "HIGHMEM", "MOVABLE")``."""
    zones = vmlinux.enumerators("zone_type")
    by_value = sorted((value, name) for name, value in zones.items() if name != "__MAX_NR_ZONES")
    return tuple(name.removeprefix("ZONE_") for _value, name in by_value)


def number_of_sections(vmlinux: Vmlinux) -> int:
    """``NR_MEM_SECTIONS``; 0 for FLATMEM, which has no ``mem_section``.

    The table is an array of roots; with SPARSEMEM_STATIC, the only kind that i386 has, every root holds one.
    """
    if not vmlinux.has_symbol("mem_section"):
        return 0
    return vmlinux.sizeof("typeof(mem_section)") // vmlinux.sizeof("struct mem_section")


def flag_layout(vmlinux: Vmlinux) -> FlagLayout:
    """The layout that the kernel of ``vmlinux`` was compiled with.

    Source: include/linux/page-flags-layout.h, ``*_PGOFF`` in include/linux/mmzone.h (6.1): from the top
    SECTION, NODE, ZONE; the node is left out where it does not fit.
    """
    flags = vmlinux.enumerators("pageflags")
    count = flags["__NR_PAGEFLAGS"]
    names: dict[str, int] = {}
    aliases: dict[str, int] = {}
    for name, bit in flags.items():
        if name != "__NR_PAGEFLAGS":
            (aliases if bit in names.values() else names)[name] = bit
    zones = len(zone_names(vmlinux))
    zone_width = (zones - 1).bit_length()
    section_width = (number_of_sections(vmlinux) - 1).bit_length() if number_of_sections(vmlinux) else 0
    # A zonelist has one entry for every zone of every node, and a terminator.
    nodes = (vmlinux.array_length("struct zonelist", "_zonerefs") - 1) // zones
    node_width = (nodes - 1).bit_length()
    bits = vmlinux.architecture.word_bits
    if zone_width + section_width + node_width + _generation_width(vmlinux) > bits - count:
        node_width = 0
    section = Field(bits - section_width, section_width)
    node = Field(section.shift - node_width, node_width)
    zone = Field(node.shift - zone_width, zone_width)
    return FlagLayout(dict(sorted(names.items(), key=lambda item: item[1])), aliases, zone, node, section)


def _generation_width(vmlinux: Vmlinux) -> int:
    """``LRU_GEN_WIDTH`` = ``order_base_2(MAX_NR_GENS + 1)`` where multi-generation LRU is configured."""
    if not vmlinux.has_member("struct lru_gen_struct", "timestamps"):
        return 0
    return vmlinux.array_length("struct lru_gen_struct", "timestamps").bit_length()

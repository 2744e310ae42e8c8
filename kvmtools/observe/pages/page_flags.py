"""The named flags of ``page->flags``, and the places above them that link a page to its zone, node and section.

Source: include/linux/page-flags.h, page-flags-layout.h (6.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmtools.observe.partial import Partial, known
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
class FlagLayout(Partial):
    """Bits and fields of ``page->flags``."""

    names: dict[str, int]
    """Bit number of every flag by its own name (``PG_reserved``), the lowest bit first; no aliases."""
    aliases: dict[str, int]
    """The enumeration's second names (``PG_swapcache``, ``PG_reported``): bits that mean more than one thing."""
    zone: Field | None = None
    node: Field | None = None
    section: Field | None = None
    """Where they are, no guest stores and no type says: the widths are macros.  The model tells it to whoever sees both
    (:func:`kvmtools.compare.flag_fields.with_fields`)."""

    def bit(self, *names: str) -> int:
        """The mask of the first of the flags that this kernel has, aliases included; 0 if it has none."""
        for name in names:
            for bits in (self.names, self.aliases):
                if name in bits:
                    return 1 << bits[name]
        return 0

    def names_of(self, flags: int) -> tuple[str, ...]:
        """Names of the flags that are set, the lowest bit first."""
        return tuple(name for name, bit in self.names.items() if flags >> bit & 1)


def zone_names(vmlinux: Vmlinux) -> tuple[str, ...]:
    """``enum zone_type`` in order, without the prefix: ``("DMA", "NORMAL", "HIGHMEM", "MOVABLE")``; the terminating
    ``__MAX_NR_ZONES`` has another.
    """
    zones = vmlinux.enumerators("zone_type")
    ordered = sorted(zones, key=lambda name: zones[name])
    return tuple(name.removeprefix("ZONE_") for name in ordered if name.startswith("ZONE_"))


def flag_layout(vmlinux: Vmlinux) -> FlagLayout:
    """The flags of the kernel of ``vmlinux``; where zone, node and section are, is not told yet."""
    return FlagLayout(
        names=known(lambda: _flag_names(vmlinux)[0], "page->flags"),
        aliases=known(lambda: _flag_names(vmlinux)[1], "page->flags"),
    )


def _flag_names(vmlinux: Vmlinux) -> tuple[dict[str, int], dict[str, int]]:
    """Bits by name, the lowest first, and by second name."""
    names: dict[str, int] = {}
    aliases: dict[str, int] = {}
    for name, bit in vmlinux.enumerators("pageflags").items():
        if name != "__NR_PAGEFLAGS":
            (aliases if bit in names.values() else names)[name] = bit
    return dict(sorted(names.items(), key=lambda item: item[1])), aliases


def lru_generations(vmlinux: Vmlinux) -> int:
    """``MAX_NR_GENS`` where multi-generation LRU is configured, else 0."""
    if not vmlinux.has_member("struct lru_gen_struct", "timestamps"):
        return 0
    return vmlinux.array_length("struct lru_gen_struct", "timestamps")

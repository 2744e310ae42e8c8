"""The zones of a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmtools.compare.list_orders import with_orders
from kvmtools.show.style import uncoloured
from kvmtools.show.zones import zones_text

if TYPE_CHECKING:
    from kvmtools.observe.observed import Observed
    from kvmtools.observe.zones.zones import Zone

    ZoneTuple = tuple[Zone, ...]
else:
    ZoneTuple = tuple


class Zones(ZoneTuple):
    """Every zone, in the order of ``enum zone_type``; prints as ``kvmtools zones`` does.

    A zone has ``name``, ``start_pfn``, ``end_pfn``, and in pages ``spanned``, ``present``, ``managed``, ``free_pages``,
    ``watermarks`` by name and ``lowmem_reserve``.  ``free_area[order].lists`` are the buddy system's, ``pcp`` the
    CPUs'; both hold pfns as NumPy columns.  Source: ``struct zone``, include/linux/mmzone.h.
    """

    def __repr__(self) -> str:
        return uncoloured(zones_text(self))


def all_zones(seen: Observed) -> Zones:
    """The zones as they were observed, and which order each of the CPUs' lists is for."""
    return Zones(with_orders(seen.zones, seen.configuration))

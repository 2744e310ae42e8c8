"""What the pages are doing: one state each, counted by zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from kvmtools.compare.list_orders import with_orders
from kvmtools.compare.whole_memmap import whole_memmap
from kvmtools.model.prediction import Prediction
from kvmtools.observe.pages.page_states import STATES, count_states, page_states
from kvmtools.observe.partial import Partial, known
from kvmtools.show.page_use import page_use_text
from kvmtools.show.style import uncoloured

if TYPE_CHECKING:
    from kvmtools.errors import Absent
    from kvmtools.observe.observed import Observed
    from kvmtools.observe.pages.memmap import MemMap
    from kvmtools.observe.zones.zones import Place, Zone


@dataclass(frozen=True, eq=False, repr=False)
class PageUse(Partial):
    """``mem_map``, and what its pages are doing; prints as ``kvmtools memmap`` does."""

    memmap: MemMap
    """Every ``struct page`` as columns of shape ``(number of pfns,)``: ``flags``, ``refcount``, ``mapcount``,
    ``private``, ``mapping``, ``index``, ``zone``, ``buddy``, ``buddy_order``, ``tail``, ``head``, ...; ``valid`` says
    which pfns have one, ``has_flag("PG_slab")`` which have a flag."""
    states: NDArray[np.uint8]
    """Index into :attr:`names` of every pfn."""
    untold: Mapping[str, Absent]
    """The states of which this kernel does not say which pages are in them, and what it lacks; such pages are counted
    as ``"other"``, or as what they look like."""
    counts: NDArray[np.int64]
    """Pages of every zone in every state, shape ``(zones, states)``, in the order of :attr:`places`; raises
    :exc:`~kvmtools.SymbolsError`, as that does, if this kernel does not say which zone they are in."""
    places: tuple[Place, ...]
    """All zones, node by node."""

    names: ClassVar[tuple[str, ...]] = STATES
    """``("free", "per-cpu", "reserved", ...)``, the states by number."""

    @property
    def zones(self) -> dict[str, dict[str, int]]:
        """Pages by zone (where there are several nodes, ``node 1 NORMAL``) and state."""
        rows = zip(self.places, self.counts.tolist(), strict=True)
        return {place.label: dict(zip(STATES, row, strict=True)) for place, row in rows}

    @property
    def total(self) -> dict[str, int]:
        """Pages by state, of all zones."""
        counts = np.bincount(self.states[self.memmap.valid], minlength=len(STATES))
        return dict(zip(STATES, counts.tolist(), strict=True))

    @property
    def page_count(self) -> int:
        """How many pfns have a ``struct page``."""
        return int(np.count_nonzero(self.memmap.valid))

    def __repr__(self) -> str:
        return uncoloured(page_use_text(self))


def page_use(seen: Observed) -> PageUse:
    """What the pages were doing when they were observed."""
    per_cpu = known(lambda: _per_cpu(with_orders(seen.zones, seen.configuration)), "zones")
    memmap = whole_memmap(seen, Prediction(seen.configuration))
    states, untold = page_states(memmap, per_cpu)

    def places() -> tuple[Place, ...]:
        return tuple(zone.place for zone in seen.zones)

    def counts() -> NDArray[np.int64]:
        nodes = sorted({place.node for place in places()})
        return np.concatenate([count_states(memmap, states, node) for node in nodes])

    return PageUse(memmap, states, untold, known(counts, "zones"), known(places, "zones"))


def _per_cpu(zones: tuple[Zone, ...]) -> NDArray[np.int64]:
    """pfns on the CPUs' lists."""
    return np.concatenate([zone.pcp_pages for zone in zones])

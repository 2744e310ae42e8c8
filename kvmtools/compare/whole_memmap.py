"""``mem_map`` as observed, with what only the model can say of it: the places of its fields, and how far it goes on.

FLATMEM's array ends behind the node, where the largest block does that begins in it.  Up to 6.12 nothing of that rest
is initialised and ``max_mapnr`` does not reach it; 7.2 initialises it, and rules look there.
"""

from __future__ import annotations

from kvmtools.compare.flag_fields import with_fields
from kvmtools.errors import Inconclusive, Unobserved, UsageError
from kvmtools.model.prediction import Prediction
from kvmtools.observe.observed import Observed
from kvmtools.observe.pages.memmap import MemMap, observe_memmap


def whole_memmap(seen: Observed, prediction: Prediction) -> MemMap:
    """All pages up to the node's end, and behind it those that the kernel (``max_mapnr``) and the model call valid."""
    memmap, limit = seen.memmap, seen.memmap.max_mapnr
    if limit is not None and limit > memmap.length:
        try:
            end = min(limit, prediction.memmap.valid[-1].end)
            if end > memmap.length:
                memmap = observe_memmap(seen.kernel, end)
        except (Unobserved, UsageError, Inconclusive):
            pass  # nobody can say more than the kernel does
    return with_fields(memmap, prediction.configuration)

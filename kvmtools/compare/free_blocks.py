"""The buddy system's blocks as columns: those that ``struct page`` marks, and those that the lists hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.pages.memmap import MemMap
from kvmtools.observe.zones.zones import Zone

Pfns = NDArray[np.int64]

_WIDTH = 16
"""Room for orders and for zones in a key; the largest stands for all that are out of range."""
_NODES = 1 << 10
"""Room for nodes: Kconfig's NODES_SHIFT goes up to 10."""


@dataclass(frozen=True, eq=False)
class FreeBlocks:
    """Columns of shape ``(number of PageBuddy pages,)``, by ascending pfn."""

    heads: Pfns
    orders: Pfns
    """``page->private`` as it is, however large."""
    ends: Pfns
    """First pfn behind the block; an impossible order counts as 0."""

    def hold(self, pfns: Pfns) -> NDArray[np.bool_]:
        """Which pfns lie in a free block."""
        if not len(self.heads):
            return np.zeros(len(pfns), np.bool_)
        at = np.searchsorted(self.heads, pfns, "right") - 1
        return (at >= 0) & (pfns < self.ends[at])

    def touch(self, starts: Pfns, ends: Pfns) -> NDArray[np.bool_]:
        """Which ranges of pfns ``[start, end)`` have a page in a free block."""
        heads_within = np.searchsorted(self.heads, ends) - np.searchsorted(self.heads, starts)
        return self.hold(starts) | (heads_within > 0)


def free_blocks(memmap: MemMap) -> FreeBlocks:
    """The blocks that ``struct page`` marks."""
    heads = np.flatnonzero(memmap.buddy).astype(np.int64)
    orders = memmap.private[heads].astype(np.int64)
    sizes = np.int64(1) << np.where(orders < _WIDTH, orders, 0)
    return FreeBlocks(heads, orders, heads + sizes)


def marked_blocks(memmap: MemMap, blocks: FreeBlocks) -> Pfns:
    """Keys of the blocks; the page's flags say what node and zone they have. See :func:`unpack`."""
    heads = blocks.heads
    zones = memmap.zone[heads].astype(np.int64)
    nodes = np.zeros(len(heads), np.int64) if memmap.node is None else memmap.node[heads].astype(np.int64)
    return pack(heads, blocks.orders, nodes, zones)


def linked_blocks(zones: Iterable[Zone]) -> Pfns:
    """Keys of the blocks on the zones' free lists; the list says what order and zone they have."""
    keys = [
        pack(each.pages, np.int64(area.order), np.int64(zone.place.node), np.int64(zone.place.index))
        for zone in zones
        for area in zone.free_area
        for each in area.lists
    ]
    return np.concatenate([np.empty(0, np.int64), *keys])


def pack(pfns: Pfns, order: Pfns | np.int64, node: Pfns | np.int64, zone: Pfns | np.int64) -> Pfns:
    """One number for a block, its order, its node and its zone."""
    block = pfns * _WIDTH + np.minimum(order, _WIDTH - 1)
    packed: Pfns = (block * _NODES + node) * _WIDTH + zone
    return packed


def unpack(key: int) -> tuple[int, int, int, int]:
    """``(pfn, order, node, zone)``."""
    block, place = divmod(key, _NODES * _WIDTH)
    return block // _WIDTH, block % _WIDTH, place // _WIDTH, place % _WIDTH


def pfns_of(keys: Pfns) -> Pfns:
    """The pfns of a column of keys."""
    return keys // (_NODES * _WIDTH * _WIDTH)

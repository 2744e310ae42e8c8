"""Follow many ``struct list_head`` chains through ``mem_map`` at once.

A chain of a hundred thousand pages cannot be followed page by page in Python, so all chains are followed by
pointer doubling: after round k every page knows the page 2^k links ahead.  That also tells, in a logarithmic
number of rounds, which chains never come back.  Source of what a list must look like: include/linux/list.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.architecture import Words
from kvmtools.observe.pages.memmap import MemMap

Pfns = NDArray[np.int64]

# A chain that strays into pages of other use is pursued this many links, then given up.
_STRAY_LINKS = 4096


@dataclass(frozen=True, slots=True)
class ListHead:
    """A ``struct list_head`` outside ``mem_map`` whose members are pages, linked through ``page->lru``."""

    address: int
    next: int
    prev: int


@dataclass(frozen=True, eq=False)
class PageList:
    """One list: its pages from the head's ``next`` on, and what is wrong with it, if anything.

    The pages of a list that loops are in no order.
    """

    pages: Pfns
    broken: str | None


def walk_page_lists(memmap: MemMap, heads: Sequence[ListHead]) -> list[PageList]:
    """Follow the lists of all ``heads``; the answers are in the same order."""
    if not heads:
        return []
    nodes = _Nodes(memmap, heads)
    jumps = _jumps(nodes)
    paths = _paths(nodes, jumps)
    return [
        nodes.judge(number, path, int(jumps[-1][nodes.first[number]])) for number, path in enumerate(paths)
    ]


class _Nodes:
    """The pages that some list may visit, numbered without gaps, and where each leads.

    Numbers below ``count`` are pages, ``count + i`` is the head of list i, ``lost`` is any other place.
    """

    def __init__(self, memmap: MemMap, heads: Sequence[ListHead]) -> None:
        self._memmap = memmap
        self._heads = heads
        self._link = memmap.offsets["lru"]
        self._addresses = np.array([head.address for head in heads], np.int64)
        self._sorted = np.argsort(self._addresses)
        starts = np.array([head.next for head in heads], np.int64)
        self.pfns = self._visitable(starts)
        self.count = len(self.pfns)
        self.lost = self.count + len(heads)
        # One more than there are pages: -1, the pfn of what is no page, is at the end.
        self._number = np.full(memmap.length + 1, self.lost, np.int64)
        self._number[self.pfns] = np.arange(self.count)
        self.first = self._resolve(starts)
        self.next = np.arange(self.lost + 1)  # heads and the lost place lead to themselves
        self.next[: self.count] = self._resolve(memmap.lru_next[self.pfns])

    def _visitable(self, starts: NDArray[np.int64]) -> Pfns:
        """Free pages, and whatever the lists lead to from them."""
        memmap = self._memmap
        free = memmap.buddy | ((memmap.refcount == 0) & ~memmap.in_buddy_block & ~memmap.tail)
        known = free.copy()
        found = self._pages(np.concatenate([starts, memmap.lru_next[free].astype(np.int64)]))
        for _ in range(_STRAY_LINKS):
            found = np.unique(found[~known[found]])
            if not len(found):
                break
            known[found] = True
            found = self._pages(memmap.lru_next[found].astype(np.int64))
        return np.flatnonzero(known)

    def _pages(self, links: NDArray[np.int64]) -> Pfns:
        pfns = self._memmap.page_to_pfn(links - self._link)
        return pfns[pfns >= 0]

    def _resolve(self, links: NDArray[np.int64] | Words) -> NDArray[np.int64]:
        """Numbers of what the ``list_head`` pointers lead to."""
        targets = links.astype(np.int64)
        pfns = self._memmap.page_to_pfn(targets - self._link)
        numbers = self._number[pfns]
        place = np.minimum(
            np.searchsorted(self._addresses, targets, sorter=self._sorted), len(self._heads) - 1
        )
        head = self._sorted[place]
        return np.where(self._addresses[head] == targets, self.count + head, numbers)

    def judge(self, number: int, path: NDArray[np.int64], end: int) -> PageList:
        """List ``number``, which visits ``path`` and then is at ``end``."""
        pages = self.pfns[path]
        if end < self.count:
            return PageList(pages, "never comes back to its head: it loops")
        if end == self.lost:
            return PageList(pages, self._how_lost(number, pages))
        if end != self.count + number:
            return PageList(
                pages, f"ends at the head of another list, {self._addresses[end - self.count]:#x}"
            )
        return PageList(pages, self._not_doubly_linked(number, pages))

    def _how_lost(self, number: int, pages: Pfns) -> str:
        if not len(pages):
            return f"head leads to {self._heads[number].next:#x}, which is no free page"
        last = int(pages[-1])
        return f"pfn {last:#x} leads to {int(self._memmap.lru_next[last]):#x}, which is no free page"

    def _not_doubly_linked(self, number: int, pages: Pfns) -> str | None:
        """Whether every ``prev`` is the inverse of the ``next`` that led there."""
        head = self._heads[number]
        links = self._link_addresses(pages)
        wanted = np.concatenate([[head.address], links])
        actual = np.concatenate([self._memmap.lru_prev[pages].astype(np.int64), [head.prev]])
        wrong = np.flatnonzero(wanted != actual)
        if not len(wrong):
            return None
        at = int(wrong[0])
        who = f"pfn {int(pages[at]):#x}" if at < len(pages) else "head"
        return f"{who} has prev {int(actual[at]):#x} where next came from {int(wanted[at]):#x}"

    def _link_addresses(self, pages: Pfns) -> NDArray[np.int64]:
        addresses = np.zeros(len(pages), np.int64)
        for piece in self._memmap.pieces:
            inside = (pages >= piece.start_pfn) & (pages < piece.start_pfn + piece.pages)
            offset = (pages[inside] - piece.start_pfn) * self._memmap.page_size
            addresses[inside] = piece.virtual + offset + self._link
        return addresses


def _jumps(nodes: _Nodes) -> list[NDArray[np.int64]]:
    """``jumps[k][node]`` is 2^k links ahead; enough rounds for every list that ends to have ended."""
    jumps = [nodes.next]
    while 1 << len(jumps) - 1 <= nodes.count and (jumps[-1][nodes.first] < nodes.count).any():
        jumps.append(jumps[-1][jumps[-1]])
    return jumps


def _paths(nodes: _Nodes, jumps: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """For every list the nodes that it visits, in order.

    If the node at position p is known for every p that is a sum of high powers of two, one jump of the next lower
    power doubles what is known; from the highest down to 1, that is every position.
    """
    ends = jumps[-1][nodes.first] >= nodes.count
    owner = np.flatnonzero((nodes.first < nodes.count) & ends)
    node = nodes.first[owner]
    position = np.zeros(len(owner), np.int64)
    for power in reversed(range(len(jumps))):
        ahead = jumps[power][node]
        inside = ahead < nodes.count
        owner = np.concatenate([owner, owner[inside]])
        position = np.concatenate([position, position[inside] + (1 << power)])
        node = np.concatenate([node, ahead[inside]])
    order = np.lexsort((position, owner))
    cuts = np.searchsorted(owner[order], np.arange(1, len(nodes.first)))
    paths = np.split(node[order], cuts)
    for looping in np.flatnonzero(~ends):
        paths[looping] = _reachable(int(nodes.first[looping]), jumps)
    return paths


def _reachable(first: int, jumps: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Every node of a chain that loops."""
    reached = np.zeros(len(jumps[0]), np.bool_)
    reached[first] = True
    for jump in reversed(jumps):
        reached[jump[reached]] = True
    return np.flatnonzero(reached)

"""The pkmap area: a few hundred slots through which the kernel looks at high memory, one page at a time.

Source: Gorman, chapter 10.1 (what the counts 0, 1 and n mean, why a flush waits until every slot was used);
mm/highmem.c (get_next_pkmap_nr, map_new_virtual, kmap_high, kunmap_high, flush_all_zero_pkmaps, page_slot),
6.1. The algorithm is the same in 5.10 and 6.12.

A page is named by the address of its ``struct page``, as in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvmtools.errors import KvmtoolsError
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, Layout

PRESENT_RW_ACCESSED_DIRTY = 0x063
GLOBAL = 1 << 8
NX = 1 << 63

PA_HASH_ORDER = 7
GOLDEN_RATIO_32 = 0x61C88647
"""``hash_ptr``'s multiplier since 4.7."""
GOLDEN_RATIO_PRIME_32 = 0x9E370001
"""The one before, up to 2.6 and 4.6."""


class MustSleep(KvmtoolsError):
    """Every slot is in use: the task goes to sleep until a kunmap() wakes it, and then calls kmap() anew."""


class KernelBug(KvmtoolsError):
    """A ``BUG_ON`` of mm/highmem.c would have stopped the kernel here."""


@dataclass(frozen=True, slots=True)
class PkmapArea:
    """Where the slots are, and what a slot's PTE holds besides its pfn."""

    base: int
    slots: int
    protection: int

    def pkmap_nr(self, address: int) -> int:
        """``PKMAP_NR``, which like the kernel's believes that the address lies in the area."""
        return (address - self.base) >> PAGE_SHIFT

    def slot_of(self, address: int) -> int | None:
        """The slot of an address; ``None`` for one outside the area."""
        slot = self.pkmap_nr(address)
        return slot if 0 <= slot < self.slots else None

    def address_of(self, slot: int) -> int:
        """``PKMAP_ADDR``."""
        return self.base + slot * PAGE_SIZE


def area(configuration: Configuration, layout: Layout) -> PkmapArea | None:
    """This kernel's area; ``None`` without CONFIG_HIGHMEM."""
    if layout.pkmap_base is None or layout.last_pkmap is None:
        return None
    return PkmapArea(layout.pkmap_base, layout.last_pkmap, expected_protection(configuration))


def expected_protection(configuration: Configuration) -> int:
    """``kmap_prot``, which is ``PAGE_KERNEL`` (pgtable_types.h, probe_page_size_mask in mm/init.c).

    Global where the CPU has PGE and page-table isolation does not forbid it; NX where the CPU has it.
    """
    protection = PRESENT_RW_ACCESSED_DIRTY
    if configuration.pge and not configuration.pti:
        protection |= GLOBAL
    if configuration.nx:
        protection |= NX
    return protection


def legal_pair(count: int, pte_present: bool) -> bool:
    """A slot is mapped exactly while its count is not 0, and a count is never negative."""
    return count >= 0 and (count > 0) == pte_present


def user_count(count: int) -> int:
    """How many kmap() calls hold the slot: n stands for n - 1; 1 is a mapping that waits for a flush."""
    return max(0, count - 1)


def bucket_of(page: int, *, multiplier: int = GOLDEN_RATIO_32, order: int = PA_HASH_ORDER) -> int:
    """``hash_ptr``: the bucket of ``page_address_htable`` that a ``struct page *`` belongs to."""
    return ((page * multiplier) & 0xFFFFFFFF) >> (32 - order)


class PkmapModel:
    """``pkmap_count[]``, the PTEs, the cursor and the page-address hash, moved by kmap and kunmap.

    :param highmem: says whether a page is high memory; by default every page is
    :param lowmem_address: ``page_address`` of a page that is not
    """

    def __init__(
        self,
        area: PkmapArea,
        *,
        multiplier: int = GOLDEN_RATIO_32,
        highmem: Callable[[int], bool] = lambda page: True,
        lowmem_address: Callable[[int], int] = lambda page: 0,
    ) -> None:
        self.area = area
        self.counts = [0] * area.slots
        self.pages: list[int | None] = [None] * area.slots
        """What each slot's PTE maps; ``None`` where it is clear."""
        self.cursor = 0
        """``last_pkmap_nr``: the slot handed out last, so that the first one ever is slot 1."""
        self.buckets: list[list[int]] = [[] for _ in range(1 << PA_HASH_ORDER)]
        """The slots on each list of ``page_address_htable``; new ones join at the tail."""
        self._multiplier = multiplier
        self._highmem = highmem
        self._lowmem_address = lowmem_address

    def page_address(self, page: int) -> int | None:
        """The address a page can be reached at now; ``None`` for high memory that is not mapped."""
        if not self._highmem(page):
            return self._lowmem_address(page)
        slot = self._slot(page)
        return None if slot is None else self.area.address_of(slot)

    def kmap(self, page: int) -> int:
        """Map a page, or count one more user of its mapping; returns its address.

        :raises MustSleep: if every slot is in use; the cursor then stands on the last slot
        """
        if not self._highmem(page):
            return self._lowmem_address(page)
        slot = self._slot(page)
        if slot is None:
            slot = self._map_new_virtual(page)
        self.counts[slot] += 1
        return self.area.address_of(slot)

    def kunmap(self, page: int) -> bool:
        """Take one user away; returns whether the slot is now unused, which wakes the sleepers.

        :raises KernelBug: if the page is not mapped, or had no user
        """
        if not self._highmem(page):
            return False
        slot = self._slot(page)
        if slot is None:
            raise KernelBug(f"kunmap of page {page:#x}, which is not mapped")
        if self.counts[slot] < 2:
            raise KernelBug(f"kunmap of slot {slot}, which has no user", hint="one kunmap too many")
        self.counts[slot] -= 1
        return self.counts[slot] == 1

    def flush_all_zero(self) -> bool:
        """Unmap every slot that nobody uses; returns whether there was one, for then the TLB is flushed.

        It runs when the cursor wraps, and at every change of page attributes (kmap_flush_unused).
        """
        unused = [slot for slot, count in enumerate(self.counts) if count == 1]
        for slot in unused:
            page = self.pages[slot]
            if page is None:
                raise KernelBug(f"slot {slot} has count 1 and no PTE")
            self.counts[slot] = 0
            self.pages[slot] = None
            self.buckets[self._bucket(page)].remove(slot)
        return bool(unused)

    def _map_new_virtual(self, page: int) -> int:
        for slot in self._candidates():
            if self.counts[slot] == 0:
                self.pages[slot] = page
                self.counts[slot] = 1
                self.buckets[self._bucket(page)].append(slot)
                return slot
        raise MustSleep(
            f"all {self.area.slots} pkmap slots are in use", hint="a kunmap() must come from another task"
        )

    def _candidates(self) -> Iterator[int]:
        """Slots in the order they are tried: once around from the cursor, and all of them after a wrap."""
        left = self.area.slots
        while left:
            self.cursor = (self.cursor + 1) % self.area.slots
            if self.cursor == 0:
                self.flush_all_zero()
                left = self.area.slots
            yield self.cursor
            left -= 1

    def _slot(self, page: int) -> int | None:
        for slot in self.buckets[self._bucket(page)]:
            if self.pages[slot] == page:
                return slot
        return None

    def _bucket(self, page: int) -> int:
        return bucket_of(page, multiplier=self._multiplier)

"""The pkmap area: a few hundred slots through which the kernel looks at high memory, one page at a time.

Source: Gorman, chapter 10.1 (what the counts 0, 1 and n mean, why a flush waits until every slot was used);
mm/highmem.c (get_next_pkmap_nr, map_new_virtual, kmap_high, kunmap_high, flush_all_zero_pkmaps, page_slot),
6.1. The algorithm is the same in 5.10 and 6.12.

A page is named by the address of its ``struct page``, as in the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmtools.model.paging.forms import ACCESSED, DIRTY, GLOBAL, NX, PRESENT, WRITABLE
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, PredictedLayout

PA_HASH_ORDER = 7


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


def area(configuration: Configuration, layout: PredictedLayout) -> PkmapArea | None:
    """This kernel's area; ``None`` without CONFIG_HIGHMEM."""
    if layout.pkmap is None:
        return None
    return PkmapArea(layout.pkmap.start, len(layout.pkmap) // PAGE_SIZE, expected_protection(configuration))


def expected_protection(configuration: Configuration) -> int:
    """``kmap_prot``, which is ``PAGE_KERNEL`` (pgtable_types.h, probe_page_size_mask in mm/init.c).

    Global where the CPU has PGE and page-table isolation does not forbid it; NX where the CPU has it.
    """
    protection = PRESENT | WRITABLE | ACCESSED | DIRTY
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


def bucket_of(page: int, *, multiplier: int, order: int = PA_HASH_ORDER) -> int:
    """``hash_ptr``: the bucket of ``page_address_htable`` that a ``struct page *`` belongs to.

    :param multiplier: the era's, :attr:`Era.hash_multiplier <kvmtools.model.eras.Era.hash_multiplier>`
    """
    return ((page * multiplier) & 0xFFFFFFFF) >> (32 - order)

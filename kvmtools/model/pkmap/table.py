"""The slots of pkmap and what ``kmap_lock`` protects: counts, PTEs, the cursor, page addresses, TLBs.

Gorman (2004, 10.1) on the counts: 0 is a free slot, 1 a slot that nobody uses but that cannot be used yet because
a TLB may still hold it, n a slot with n - 1 users.  A flush is expensive, so it waits until every slot was handed out.

The functions here run with ``kmap_lock`` held.  Each is a generator that stops after every store that somebody who
looks without the lock could see, and says which; :mod:`kvmtools.model.pkmap.threads` lets other threads run meanwhile.

A page is named by the address of its ``struct page``.

Source: mm/highmem.c, 2.4.18, 2.6.24, 2.6.32, 6.1, 6.12, whose algorithm is the same; an era holds what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from kvmtools.model.bugs import KernelBug
from kvmtools.model.eras import Era
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.page_address import page_addresses
from kvmtools.model.pkmap.tlb import Tlbs


class PkmapTable:
    """``pkmap_count[]``, ``pkmap_page_table[]``, ``last_pkmap_nr`` and the page addresses, as they are at boot.

    :param highmem: says whether a page is high memory; by default every page is
    :param lowmem_address: ``page_address`` of a page that is not
    :param page_name: what messages call a page
    """

    def __init__(
        self,
        area: PkmapArea,
        era: Era,
        *,
        nr_cpus: int = 1,
        highmem: Callable[[int], bool] = lambda page: True,
        lowmem_address: Callable[[int], int] = lambda page: 0,
        page_name: Callable[[int], str] = hex,
    ) -> None:
        self.area = area
        self.era = era
        self.pkmap_count = [0] * area.slots
        self.ptes: list[int | None] = [None] * area.slots
        """What each slot's PTE maps; ``None`` where it is clear."""
        self.last_pkmap_nr = 0
        """The slot handed out last, so that the first one ever is slot 1."""
        self.addresses = page_addresses(era, area, highmem)
        self.tlbs = Tlbs(nr_cpus)
        self.flushes = 0
        """How often all CPUs had to flush their TLBs: what the scheme costs."""
        self.highmem = highmem
        self.lowmem_address = lowmem_address
        self.page_name = page_name

    def page_address(self, page: int) -> int | None:
        """The address a page can be reached at now; ``None`` for high memory that is not mapped."""
        return self.addresses.page_address(page) if self.highmem(page) else self.lowmem_address(page)

    def kmap_high(self, page: int) -> Generator[str, None, int | None]:
        """One more user of the page's mapping, which is made if there is none.

        :returns: the address; ``None`` if every slot is in use, so that the caller must sleep and then call anew
        :raises KernelBug: if the count of a mapped page was 0
        """
        virtual = self.page_address(page)
        if virtual is None:
            virtual = yield from self.map_new_virtual(page)
        if virtual is None:
            return None
        nr = self.area.pkmap_nr(virtual)
        self.pkmap_count[nr] += 1
        if self.pkmap_count[nr] < 2:
            raise KernelBug("pkmap_count[PKMAP_NR(vaddr)] < 2", f"slot {nr} had a page and the count 0")
        return virtual

    def map_new_virtual(self, page: int) -> Generator[str, None, int | None]:
        """Find a free slot, from the cursor on, and map the page there; the count becomes 1.

        The count of tries starts again when the cursor wraps, so that it runs out only on the last slot: the next
        slot tried after that is 0, and a flush comes first.

        :returns: the address; ``None`` if every slot is in use
        """
        count = self.area.slots
        while True:
            nr = self.get_next_pkmap_nr()
            if nr == 0:
                yield from self.flush_all_zero_pkmaps()
                count = self.area.slots
            if self.pkmap_count[nr] == 0:
                break
            count -= 1
            if count == 0:
                return None
        virtual = self.area.address_of(nr)
        self.ptes[nr] = page
        self.tlbs.load(nr, page)
        yield f"slot {nr}: set_pte"
        self.pkmap_count[nr] = 1
        yield f"slot {nr}: count 1"
        self.addresses.set_page_address(page, virtual)
        yield f"slot {nr}: set_page_address"
        return virtual

    def get_next_pkmap_nr(self) -> int:
        """Move the cursor on by one slot."""
        self.last_pkmap_nr = (self.last_pkmap_nr + 1) % self.area.slots
        return self.last_pkmap_nr

    def kunmap_high(self, page: int) -> bool:
        """One user less.  The count stays at 1, never 0: only a flush of the TLBs frees a slot.

        :returns: whether the slot has no user any more, so that sleepers are to be woken
        :raises KernelBug: if the page is not mapped, or had no user
        """
        virtual = self.page_address(page)
        if virtual is None:
            raise KernelBug("!vaddr", f"kunmap of page {self.page_name(page)}, which is not mapped")
        nr = self.area.pkmap_nr(virtual)
        self.pkmap_count[nr] -= 1
        if self.pkmap_count[nr] == 0:
            raise KernelBug("--pkmap_count[nr] == 0", f"kunmap of slot {nr}, which has no user")
        return self.pkmap_count[nr] == 1

    def flush_all_zero_pkmaps(self) -> Generator[str, None, None]:
        """Unmap every slot that nobody uses and flush all TLBs.

        :raises KernelBug: if a slot with the count 1 has no PTE
        """
        cleared = False
        for nr, count in enumerate(self.pkmap_count):
            if count != 1:
                continue
            self.pkmap_count[nr] = 0
            yield f"slot {nr}: count 0"
            page = self.ptes[nr]
            if page is None:
                raise KernelBug("pte_none(pkmap_page_table[i])", f"slot {nr} had the count 1 and no PTE")
            self.ptes[nr] = None
            yield f"slot {nr}: pte_clear"
            self.addresses.set_page_address(page, None)
            yield f"slot {nr}: set_page_address(NULL)"
            cleared = True
        if cleared or self.era.flush_tlb_always:
            self.flushes += 1
            for cpu in range(len(self.tlbs.cpus)):
                self.tlbs.flush(cpu)
                yield f"CPU {cpu}: flush_tlb"

"""Where the kernel writes down at which address a highmem page is mapped: three generations of bookkeeping.

``"member"``   2.4: the field ``virtual`` of ``struct page``, a word for every page of the machine.
``"pool"``     2.6: a hash of ``struct page_address_map``, taken from the head of a list of unused ones and given
               back to its tail, so that an entry's index says nothing about the slot.
``"indexed"``  5.10 and later: the same hash, but slot *n* has entry *n*; there is no list of unused ones.

An entry that was removed keeps its page and its address; only its list pointers tell that it is stale.

Source: page_address, set_page_address, page_address_init and page_slot in mm/highmem.c, 2.6.24, 2.6.32, 6.1, 6.12;
page->virtual in mm/highmem.c, 2.4.18.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvmtools.model.bugs import KernelBug
from kvmtools.model.eras import Era
from kvmtools.model.eras.dialects import PageAddress
from kvmtools.model.pkmap.area import PkmapArea, bucket_of

UNUSED, LISTED, POOLED, POISONED = "unused", "listed", "pooled", "poisoned"
"""What the list pointers of an entry say: zero since boot, in a bucket, in the pool, LIST_POISON1/2."""


class PageAddresses(Protocol):
    """``page_address`` and ``set_page_address`` for highmem pages."""

    def page_address(self, page: int) -> int | None:
        """The virtual address a page is mapped at, ``None`` if it is not."""

    def set_page_address(self, page: int, virtual: int | None) -> None:
        """Note that a page is mapped at ``virtual`` now, or with ``None`` that it is not mapped any more."""

    def associations(self) -> list[tuple[int, int]]:
        """Every (page, virtual address) that is noted; a page noted twice is there twice."""


class MemberAddresses:
    """``page->virtual`` of those highmem pages where it is not NULL."""

    def __init__(self) -> None:
        self.virtual: dict[int, int] = {}

    def page_address(self, page: int) -> int | None:
        """Read ``page->virtual``."""
        return self.virtual.get(page)

    def set_page_address(self, page: int, virtual: int | None) -> None:
        """Assign ``page->virtual``."""
        if virtual is None:
            self.virtual.pop(page, None)
        else:
            self.virtual[page] = virtual

    def associations(self) -> list[tuple[int, int]]:
        """The pages that have an address."""
        return list(self.virtual.items())


class PageAddressMap:
    """``struct page_address_map``: one entry of the hash; all zero until it is used."""

    __slots__ = ("links", "page", "virtual")

    def __init__(self, links: str) -> None:
        self.page = 0
        self.virtual = 0
        self.links = links


class IndexedAddresses:
    """``page_address_htable``, in which entry *n* of ``page_address_maps`` stands for slot *n*."""

    def __init__(self, area: PkmapArea, multiplier: int, highmem: Callable[[int], bool]) -> None:
        self.maps = [PageAddressMap(UNUSED) for _ in range(area.slots)]
        """``page_address_maps``."""
        self.htable: dict[int, list[int]] = {}
        """``page_address_htable``: the indexes of the entries in each bucket, in list order; no item, no entry."""
        self.area = area
        self.multiplier = multiplier
        self._highmem = highmem

    def page_slot(self, page: int) -> int:
        """The number of the bucket a page belongs to."""
        return bucket_of(page, multiplier=self.multiplier)

    def page_address(self, page: int) -> int | None:
        """The address in the first entry of the bucket that is about this page."""
        for index in self.htable.get(self.page_slot(page), ()):
            if self.maps[index].page == page:
                return self.maps[index].virtual
        return None

    def set_page_address(self, page: int, virtual: int | None) -> None:
        """Add an entry at the tail of the page's bucket, or remove the first one that is about it.

        :raises KernelBug: if the page is not highmem, or no entry is left
        """
        if not self._highmem(page):
            raise KernelBug("!PageHighMem(page)", f"set_page_address of the lowmem page {page:#x}")
        bucket = self.htable.setdefault(self.page_slot(page), [])
        if virtual is not None:
            index = self._take(virtual)
            entry = self.maps[index]
            entry.page, entry.virtual, entry.links = page, virtual, LISTED
            bucket.append(index)
            return
        about_it = [index for index in bucket if self.maps[index].page == page]
        for index in about_it[:1]:
            bucket.remove(index)
            self._give_back(index)

    def associations(self) -> list[tuple[int, int]]:
        """What the entries in the buckets say; stale ones are in none."""
        entries = [self.maps[index] for bucket in self.htable.values() for index in bucket]
        return [(entry.page, entry.virtual) for entry in entries]

    def _take(self, virtual: int) -> int:
        return self.area.pkmap_nr(virtual)

    def _give_back(self, index: int) -> None:
        self.maps[index].links = POISONED


class PoolAddresses(IndexedAddresses):
    """The hash whose entries come from ``page_address_pool`` and go back there."""

    def __init__(self, area: PkmapArea, multiplier: int, highmem: Callable[[int], bool]) -> None:
        super().__init__(area, multiplier, highmem)
        self.pool = list(reversed(range(area.slots)))
        """``page_address_pool``.  At boot each entry joins at the head, so that the last one is taken first."""
        for entry in self.maps:
            entry.links = POOLED

    def _take(self, virtual: int) -> int:
        if not self.pool:
            raise KernelBug("list_empty(&page_address_pool)", f"no entry is left for address {virtual:#x}")
        return self.pool.pop(0)

    def _give_back(self, index: int) -> None:
        self.pool.append(index)
        self.maps[index].links = POOLED


def page_addresses(era: Era, area: PkmapArea, highmem: Callable[[int], bool]) -> PageAddresses:
    """The bookkeeping of that era, as it is at boot."""
    if era.hash_multiplier is None:
        return MemberAddresses()
    kind = {PageAddress.POOL: PoolAddresses, PageAddress.INDEXED: IndexedAddresses}[era.page_address]
    return kind(area, era.hash_multiplier, highmem)

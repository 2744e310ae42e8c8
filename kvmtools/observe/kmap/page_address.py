"""``page_address_htable``: which virtual address a highmem page has while it is kmapped.

A hash table of lists whose nodes are the elements of ``page_address_maps``, one per pkmap slot.
Source: ``set_page_address``, mm/highmem.c (6.1); HASHED_PAGE_VIRTUAL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from kvmtools.errors import MemoryFault, Unobserved
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.partial import Partial, known
from kvmtools.observe.spinlock import taken
from kvmtools.records import Range

_HTABLE = "page_address_htable"
_MAPS = "page_address_maps"
_SLOT = "struct page_address_slot"
_MAP = "struct page_address_map"


@dataclass(frozen=True, slots=True)
class HashEntry(Partial):
    """A ``struct page_address_map`` that some bucket's list leads to."""

    address: int
    index: int | None
    """Its place in ``page_address_maps``; ``None`` if it is not an element of that array."""
    page: int
    """Virtual address of the ``struct page``."""
    virtual: int
    next: int
    prev: int


@dataclass(frozen=True, slots=True)
class Bucket(Partial):
    """One bucket and what its list holds, in order; a list that is damaged is followed as far as it goes."""

    index: int
    address: int
    entries: tuple[HashEntry, ...]
    broken: str | None
    """What is wrong with the list; ``None`` if it is circular and doubly linked."""
    locked: bool | None
    """Whether the bucket's lock is taken; ``None`` on a kernel for one CPU, which has none."""


def maps_extent(kernel: Kernel) -> tuple[int, int]:
    """Virtual address and number of elements of ``page_address_maps``."""
    return kernel.address(_MAPS), kernel.vmlinux.array_length(f"typeof({_MAPS})")


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_buckets` reads."""
    for symbol in (_HTABLE, _MAPS):
        with suppress(Unobserved):
            start = kernel.physical(kernel.address(symbol))
            yield Range(start, start + kernel.vmlinux.sizeof(f"typeof({symbol})"))


def observe_buckets(kernel: Kernel) -> tuple[Bucket, ...]:
    """Every bucket of the hash table.

    :raises MemoryFault: if the table was not captured
    """
    start, stride = kernel.address(_HTABLE), kernel.vmlinux.sizeof(_SLOT)
    count = kernel.vmlinux.array_length(f"typeof({_HTABLE})")
    reader = _Reader(kernel)
    return tuple(reader.bucket(index, start + index * stride) for index in range(count))


class _Reader:
    """Follows the buckets' lists.

    A list that loops is left at the loop: where it closes, an entry is reached whose ``prev`` is another's.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        vmlinux = kernel.vmlinux
        self._head = vmlinux.offset(_SLOT, "lh")
        self._node = vmlinux.offset(_MAP, "list")
        self._size = vmlinux.sizeof(_MAP)
        self._members = {name: vmlinux.offset(_MAP, name) for name in ("page", "virtual")}
        self._next = vmlinux.offset("struct list_head", "next")
        self._prev = vmlinux.offset("struct list_head", "prev")

    def bucket(self, index: int, address: int) -> Bucket:
        head = address + self._head
        entries, broken = self._follow(head)
        return Bucket(index, address, tuple(entries), broken, known(lambda: self._locked(address), _HTABLE))

    def _locked(self, address: int) -> bool | None:
        vmlinux = self._kernel.vmlinux
        lock = address + vmlinux.offset(_SLOT, "lock")
        return taken(vmlinux, self._kernel.read(lock, vmlinux.sizeof(_SLOT, "lock")))

    def _index(self, address: int) -> int | None:
        maps, length = maps_extent(self._kernel)
        index, rest = divmod(address - maps, self._size)
        return index if 0 <= index < length and not rest else None

    def _follow(self, head: int) -> tuple[list[HashEntry], str | None]:
        kernel, entries = self._kernel, list[HashEntry]()
        before, link = head, kernel.pointer(head + self._next)
        while link != head:
            try:
                entry = self._entry(link - self._node)
            except MemoryFault as fault:
                return entries, f"{before:#x} leads to {link:#x}: {fault.message}"
            entries.append(entry)
            if entry.prev != before:
                return entries, f"entry {entry.address:#x} has prev {entry.prev:#x}, not {before:#x}"
            before, link = link, entry.next
        prev = kernel.pointer(head + self._prev)
        return entries, None if prev == before else f"head has prev {prev:#x}, not {before:#x}"

    def _entry(self, address: int) -> HashEntry:
        kernel = self._kernel
        return HashEntry(
            address=address,
            index=known(lambda: self._index(address), _MAPS),
            page=kernel.pointer(address + self._members["page"]),
            virtual=kernel.pointer(address + self._members["virtual"]),
            next=kernel.pointer(address + self._node + self._next),
            prev=kernel.pointer(address + self._node + self._prev),
        )

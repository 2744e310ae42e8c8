"""Which locks were held when the guest was stopped: what they cover may be half done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from kvmtools.errors import Unobserved
from kvmtools.observe.observed import Observed
from kvmtools.observe.spinlock import taken

GLOBAL_LOCKS = {
    "pgd_lock": ("pgd_lock", ""),
    "cpa_lock": ("cpa_lock", ""),
    "init_mm.page_table_lock": ("init_mm", "page_table_lock"),
}
"""Locks of the kernel's page tables: symbol, and the member of the ``struct mm_struct`` there, if it is one."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that a CPU held; ``kind`` is what rules name, ``name`` which one of the kind."""

    kind: str
    name: str


def held_locks(observed: Observed) -> Iterator[HeldLock]:
    """Every held lock that was observed; a kernel for one CPU has no lock words, so there it finds none."""
    for find in (_of_pkmap, _of_zones, _of_page_tables):
        with suppress(Unobserved):  # what cannot be read has rules that are skipped
            yield from find(observed)


def _of_pkmap(observed: Observed) -> Iterator[HeldLock]:
    pkmap = observed.pkmap
    if pkmap is not None:
        if pkmap.locked:
            yield HeldLock("kmap_lock", "kmap_lock")
        for bucket in pkmap.buckets:
            if bucket.locked:
                yield HeldLock("page_address_htable", f"page_address_htable[{bucket.index}].lock")


def _of_zones(observed: Observed) -> Iterator[HeldLock]:
    for zone in observed.zones:
        if zone.locked:
            yield HeldLock("zone", f"{zone.place.title} lock")
        for pageset in zone.pcp:
            if pageset.locked:
                yield HeldLock("pcp", f"{zone.place.title} cpu {pageset.cpu} pcp lock")


def _of_page_tables(observed: Observed) -> Iterator[HeldLock]:
    for name, (symbol, member) in GLOBAL_LOCKS.items():
        if _taken(observed, symbol, member):
            yield HeldLock(name, name)


def _taken(observed: Observed, symbol: str, member: str) -> bool:
    """Whether a ``spinlock_t`` in the kernel's data is taken."""
    kernel = observed.kernel
    vmlinux = kernel.vmlinux
    if not vmlinux.has_symbol(symbol):
        return False
    offset = vmlinux.offset("struct mm_struct", member) if member else 0
    with suppress(Unobserved):
        lock = kernel.read(kernel.address(symbol) + offset, vmlinux.sizeof("spinlock_t"))
        return bool(taken(vmlinux, lock))
    return False

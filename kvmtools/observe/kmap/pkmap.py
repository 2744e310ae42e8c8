"""pkmap: the window of kernel addresses through which ``kmap()`` shows highmem pages, and its bookkeeping.

Source: mm/highmem.c and arch/x86/include/asm/highmem.h, 6.1.  What is function-static there (the cursor, the
wait queue) is found by its symbol ``name.N``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import Unobserved
from kvmtools.observe.architecture import INT
from kvmtools.observe.broken import Broken
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap import page_address
from kvmtools.observe.kmap.page_address import Bucket
from kvmtools.observe.pages.page_flags import zone_names
from kvmtools.observe.paging.walk import Tables
from kvmtools.observe.partial import Partial, known
from kvmtools.observe.spinlock import taken
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import PAGE_SIZE, Range

T = TypeVar("T")

_CURSOR = "last_pkmap_nr"
_WAIT_QUEUE = "pkmap_map_wait"
_WAIT_QUEUE_TYPE = "struct wait_queue_head"
_LOCK = "kmap_lock"


@dataclass(frozen=True, eq=False)
class Pkmap(Partial):
    """Every slot and what is kept about it; columns of shape ``(LAST_PKMAP,)``."""

    hooks: tuple[int, ...]
    """Every address where the kernel's page tables lead to pkmap's page table; one, if all is well."""
    counts: NDArray[np.int32]
    """``pkmap_count``: 0 is empty, 1 unused and not yet flushed, n has n - 1 users."""
    ptes: NDArray[np.uint64]
    """Raw entries, of 4 or 8 bytes in memory."""
    page_table_physical: int
    page_table_pointer: int
    """``pkmap_page_table``: virtual address of slot 0's entry."""
    cursor: int
    """``last_pkmap_nr``, the slot that was tried last."""
    buckets: tuple[Bucket, ...]
    """``page_address_htable``."""
    maps_address: int
    maps_length: int
    """``page_address_maps``: virtual address and elements."""
    waiters: bool
    """Whether a task sleeps until a slot becomes free."""
    locked: bool | None
    """Whether ``kmap_lock`` is taken; ``None`` on a kernel for one CPU, which has none."""

    @property
    def base(self) -> int | None:
        """Address of slot 0, as the page tables show it; ``None`` if none or several places lead to the page table."""
        return self.hooks[0] if len(self.hooks) == 1 else None


def has_pkmap(vmlinux: Vmlinux) -> bool:
    """Whether the kernel has the window at all: CONFIG_HIGHMEM."""
    return vmlinux.has_symbol("pkmap_count") or "HIGHMEM" in zone_names(vmlinux)


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_pkmap` reads."""
    if not has_pkmap(kernel.vmlinux):
        return
    for find in (_variables, page_address.needs, _page_table):
        with suppress(Unobserved):
            yield from find(kernel)


def _variables(kernel: Kernel) -> Iterator[Range]:
    """The counts, the pointer, the cursor, the wait queue, the lock."""
    sizeof = kernel.vmlinux.sizeof
    variables: tuple[tuple[Callable[[Kernel], int], str], ...] = (
        (lambda kernel: kernel.address("pkmap_count"), "typeof(pkmap_count)"),
        (lambda kernel: kernel.address("pkmap_page_table"), "typeof(pkmap_page_table)"),
        (lambda kernel: kernel.address(_LOCK), "spinlock_t"),
        (partial(_static, name=_CURSOR), "unsigned int"),
        (partial(_static, name=_WAIT_QUEUE), _WAIT_QUEUE_TYPE),
    )
    for find, type_name in variables:
        with suppress(Unobserved):
            start = kernel.physical(find(kernel))
            yield Range(start, start + sizeof(type_name))


def _page_table(kernel: Kernel) -> Iterator[Range]:
    start = kernel.physical(kernel.variable("pkmap_page_table"))
    yield Range(start, start + _slots(kernel.vmlinux) * kernel.vmlinux.sizeof("pte_t"))


def observe_pkmap(
    kernel: Kernel, tables: Callable[[], Tables], broken: list[Broken] | None = None
) -> Pkmap | None:
    """Read the window's state; ``None`` if the kernel has none.

    :param tables: of the walk from ``swapper_pg_dir``: they show where the window lies
    :param broken: takes what cannot be read
    """
    vmlinux = kernel.vmlinux
    if not has_pkmap(vmlinux):
        return None

    def told(read: Callable[[], T]) -> T:
        return known(read, "pkmap", broken)

    def page_table() -> int:
        return kernel.physical(kernel.variable("pkmap_page_table"))

    return Pkmap(
        hooks=told(lambda: _hooks(tables(), page_table(), vmlinux.sizeof("pte_t"))),
        counts=told(lambda: _column(kernel, kernel.address("pkmap_count"), INT).astype(np.int32)),
        ptes=told(lambda: _ptes(kernel)),
        page_table_physical=told(page_table),
        page_table_pointer=told(lambda: kernel.variable("pkmap_page_table")),
        cursor=told(lambda: kernel.u32(_static(kernel, _CURSOR))),
        buckets=told(lambda: page_address.observe_buckets(kernel)),
        maps_address=told(lambda: page_address.maps_extent(kernel)[0]),
        maps_length=told(lambda: page_address.maps_extent(kernel)[1]),
        waiters=told(lambda: _waiters(kernel)),
        locked=told(lambda: _locked(kernel)),
    )


def _column(kernel: Kernel, address: int, element: np.dtype[Any] | str) -> NDArray[np.generic]:
    return kernel.array(address, element, _slots(kernel.vmlinux))


def _ptes(kernel: Kernel) -> NDArray[np.uint64]:
    entry = f"<u{kernel.vmlinux.sizeof('pte_t')}"
    return _column(kernel, kernel.variable("pkmap_page_table"), entry).astype(np.uint64)


def _slots(vmlinux: Vmlinux) -> int:
    """``LAST_PKMAP``."""
    return vmlinux.array_length("typeof(pkmap_count)")


def _hooks(tables: Tables, page_table: int, entry_size: int) -> tuple[int, ...]:
    """Addresses of slot 0; pkmap's entries are a whole table, but nothing here relies on it."""
    first = page_table & -PAGE_SIZE
    skipped = (page_table - first) // entry_size * PAGE_SIZE
    leads_there = (tables.physical == first) & (tables.level == 1)
    return tuple(int(virtual) + skipped for virtual in tables.virtual[leads_there])


def _static(kernel: Kernel, name: str) -> int:
    """Address of a variable that is function-static since 2.6.35's successors, a file's static before."""
    if kernel.vmlinux.has_symbol(name):
        return kernel.address(name)
    return kernel.vmlinux.symbol_like(name) + kernel.slide


def _waiters(kernel: Kernel) -> bool:
    head = _static(kernel, _WAIT_QUEUE) + kernel.vmlinux.offset(_WAIT_QUEUE_TYPE, "head")
    return kernel.pointer(head + kernel.vmlinux.offset("struct list_head", "next")) != head


def _locked(kernel: Kernel) -> bool | None:
    vmlinux = kernel.vmlinux
    if not vmlinux.has_symbol(_LOCK):
        return None
    return taken(vmlinux, kernel.read(kernel.address(_LOCK), vmlinux.sizeof("spinlock_t")))

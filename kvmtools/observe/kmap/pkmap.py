"""pkmap: the window of kernel addresses through which ``kmap()`` shows highmem pages, and its bookkeeping.

Source: mm/highmem.c and arch/x86/include/asm/highmem.h, 6.1.  What is function-static there (the cursor, the
wait queue) is found by its symbol ``name.N``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import SymbolsError
from kvmtools.observe.architecture import INT
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap import page_address
from kvmtools.observe.kmap.page_address import Bucket
from kvmtools.observe.paging.walk import Tables
from kvmtools.observe.spinlock import taken
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import PAGE_SIZE, Range

_CURSOR = "last_pkmap_nr"
_WAIT_QUEUE = "pkmap_map_wait"
_WAIT_QUEUE_TYPE = "struct wait_queue_head"
_LOCK = "kmap_lock"


@dataclass(frozen=True, eq=False)
class Pkmap:
    """Every slot and what is kept about it; columns of shape ``(LAST_PKMAP,)``."""

    base: int | None
    """Address of slot 0, as the page tables show it; ``None`` if none or several places lead to the page table."""
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
    """``page_address_htable``; empty in a kernel that keeps the address in ``struct page``."""
    maps_address: int
    maps_length: int
    """``page_address_maps``: virtual address and elements."""
    waiters: bool | None
    """Whether a task sleeps until a slot becomes free; ``None`` if the wait queue has no symbol."""
    locked: bool | None
    """Whether ``kmap_lock`` is taken; ``None`` on a kernel for one CPU, which has none."""
    kmap_prot: int | None
    """The variable ``kmap_prot`` where it is one; since 2.6.33 it is the macro ``PAGE_KERNEL``."""
    supported_pte_mask: int | None
    """``__supported_pte_mask``: bits that the CPU can have in an entry (NX, G)."""
    default_pte_mask: int | None
    """``__default_kernel_pte_mask``: bits that the kernel wants in its own (no G with page-table isolation)."""


def has_pkmap(vmlinux: Vmlinux) -> bool:
    """Whether the kernel has the window at all: CONFIG_HIGHMEM."""
    return vmlinux.has_symbol("pkmap_count")


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_pkmap` reads."""
    vmlinux = kernel.vmlinux
    if not has_pkmap(vmlinux):
        return
    sizes = {
        "pkmap_count": vmlinux.sizeof("typeof(pkmap_count)"),
        "pkmap_page_table": kernel.architecture.word_size,
        _LOCK: _size_of_lock(vmlinux),
        "__supported_pte_mask": 8,
        "__default_kernel_pte_mask": 8,
    }
    places = [(kernel.address(name), size) for name, size in sizes.items() if vmlinux.has_symbol(name)]
    places.append((_cursor_address(kernel), 4))
    queue = _wait_queue_address(kernel)
    if queue is not None:
        places.append((queue, vmlinux.sizeof(_WAIT_QUEUE_TYPE)))
    for address, size in places:
        start = kernel.physical(address)
        yield Range(start, start + size)
    yield from page_address.needs(kernel)
    start = kernel.physical(kernel.variable("pkmap_page_table"))
    yield Range(start, start + _slots(vmlinux) * vmlinux.sizeof("pte_t"))


def observe_pkmap(kernel: Kernel, tables: Tables) -> Pkmap | None:
    """Read the window's state; ``None`` if the kernel has none.

    :param tables: of the walk from ``swapper_pg_dir``: they show where the window lies
    :raises MemoryFault: if a part was not captured
    :raises SymbolsError: if a symbol is missing that only a kernel with pkmap would lack by mistake
    """
    vmlinux = kernel.vmlinux
    if not has_pkmap(vmlinux):
        return None
    slots = _slots(vmlinux)
    pointer = kernel.variable("pkmap_page_table")
    page_table = kernel.physical(pointer)
    hooks = _hooks(tables, page_table, vmlinux.sizeof("pte_t"))
    maps_address, maps_length = (0, 0)
    if page_address.has_page_address_hash(vmlinux):
        maps_address, maps_length = page_address.maps_extent(kernel)
    entry = np.dtype(f"<u{vmlinux.sizeof('pte_t')}")
    return Pkmap(
        base=hooks[0] if len(hooks) == 1 else None,
        hooks=hooks,
        counts=kernel.array(kernel.address("pkmap_count"), INT, slots).astype(np.int32),
        ptes=kernel.array(pointer, entry, slots).astype(np.uint64),
        page_table_physical=page_table,
        page_table_pointer=pointer,
        cursor=kernel.u32(_cursor_address(kernel)),
        buckets=page_address.observe_buckets(kernel),
        maps_address=maps_address,
        maps_length=maps_length,
        waiters=_waiters(kernel),
        locked=_locked(kernel),
        kmap_prot=_variable(kernel, "kmap_prot"),
        supported_pte_mask=_variable(kernel, "__supported_pte_mask"),
        default_pte_mask=_variable(kernel, "__default_kernel_pte_mask"),
    )


def _slots(vmlinux: Vmlinux) -> int:
    """``LAST_PKMAP``."""
    return vmlinux.array_length("typeof(pkmap_count)")


def _hooks(tables: Tables, page_table: int, entry_size: int) -> tuple[int, ...]:
    """Addresses of slot 0; pkmap's entries are a whole table, but nothing here relies on it."""
    first = page_table & -PAGE_SIZE
    skipped = (page_table - first) // entry_size * PAGE_SIZE
    leads_there = (tables.physical == first) & (tables.level == 1)
    return tuple(int(virtual) + skipped for virtual in tables.virtual[leads_there])


def _cursor_address(kernel: Kernel) -> int:
    """Function-static since 2.6.35's successors, a file's static before."""
    if kernel.vmlinux.has_symbol(_CURSOR):
        return kernel.address(_CURSOR)
    return kernel.vmlinux.symbol_like(_CURSOR) + kernel.slide


def _wait_queue_address(kernel: Kernel) -> int | None:
    if kernel.vmlinux.has_symbol(_WAIT_QUEUE):
        return kernel.address(_WAIT_QUEUE)
    try:
        return kernel.vmlinux.symbol_like(_WAIT_QUEUE) + kernel.slide
    except SymbolsError:
        return None


def _waiters(kernel: Kernel) -> bool | None:
    queue = _wait_queue_address(kernel)
    if queue is None:
        return None
    head = queue + kernel.vmlinux.offset(_WAIT_QUEUE_TYPE, "head")
    return kernel.pointer(head + kernel.vmlinux.offset("struct list_head", "next")) != head


def _size_of_lock(vmlinux: Vmlinux) -> int:
    return vmlinux.sizeof("spinlock_t") if vmlinux.has_symbol(_LOCK) else 0


def _locked(kernel: Kernel) -> bool | None:
    size = _size_of_lock(kernel.vmlinux)
    return taken(kernel.vmlinux, kernel.read(kernel.address(_LOCK), size)) if size else None


def _variable(kernel: Kernel, name: str) -> int | None:
    return kernel.variable(name) if kernel.vmlinux.has_symbol(name) else None

"""Which CPUs there are, and objects of theirs that need not lie in the linear map.

The first chunk of per-CPU memory, with the variables of the kernel itself, is lowmem or vmalloc'ed (mm/percpu.c,
``pcpu_embed_first_chunk`` and ``pcpu_page_first_chunk``: ``percpu_alloc=page``, i386 NUMA, or for want of memory in one
piece), and later ones always are.  So whatever a CPU has of its own is read by :func:`physical_ranges`.
"""

from __future__ import annotations

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.paging.walk import translate
from kvmtools.records import PAGE_SIZE, Range


def possible_cpus(kernel: Kernel) -> tuple[int, ...]:
    """CPUs that have per-CPU memory (``cpu_possible_mask``); raises as :func:`_mask`."""
    return _mask(kernel, "__cpu_possible_mask")


def configured_cpus(kernel: Kernel) -> int:
    """``CONFIG_NR_CPUS``; a kernel for one CPU has no array of per-CPU offsets."""
    if not kernel.vmlinux.smp:
        return 1
    return kernel.vmlinux.array_length("typeof(__per_cpu_offset)")


def online_cpus(kernel: Kernel) -> tuple[int, ...]:
    """CPUs that run (``cpu_online_mask``); raises as :func:`_mask`."""
    return _mask(kernel, "__cpu_online_mask")


def _mask(kernel: Kernel, symbol: str) -> tuple[int, ...]:
    """The CPUs in a mask; a kernel for one CPU need not keep any.

    :raises Absent: if one for several does not
    :raises MemoryFault: if there are none, so that nothing is behind the mask
    """
    if not kernel.vmlinux.smp:
        return (0,)
    bits = int.from_bytes(
        kernel.read(kernel.address(symbol), kernel.vmlinux.sizeof("struct cpumask")), "little"
    )
    if not bits:
        raise MemoryFault(kernel.address(symbol), f"{symbol} holds no CPU", space="virtual")
    return tuple(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def physical_ranges(kernel: Kernel, virtual: int, size: int) -> list[Range]:
    """Where ``size`` bytes at a kernel address lie in physical memory, page by page outside the linear map.

    :raises MemoryFault: if any page of them is not mapped
    """
    if kernel.page_offset <= virtual and virtual + size <= kernel.lowmem_end:
        start = kernel.physical(virtual)
        return [Range(start, start + size)]
    ranges, end = [], virtual + size
    while virtual < end:
        length = min(end, (virtual | PAGE_SIZE - 1) + 1) - virtual
        found = translate(kernel.memory, kernel.root, virtual, kernel.paging)
        if found.physical is None:
            raise MemoryFault(virtual, "is not mapped by the kernel", space="virtual")
        ranges.append(Range(found.physical, found.physical + length))
        virtual += length
    return ranges


def read_virtual(kernel: Kernel, virtual: int, size: int) -> bytes:
    """``size`` bytes at any address that the kernel's own page tables map; raises as :func:`physical_ranges`."""
    ranges = physical_ranges(kernel, virtual, size)
    return b"".join(kernel.memory.read(each.start, len(each)) for each in ranges)


def integer_at(kernel: Kernel, virtual: int, size: int, *, signed: bool = False) -> int:
    """A little-endian integer at such an address; raises as :func:`physical_ranges`."""
    return int.from_bytes(read_virtual(kernel, virtual, size), "little", signed=signed)

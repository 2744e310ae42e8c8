"""The memory nodes: one ``struct pglist_data``, or a table of them with NUMA."""

from __future__ import annotations

from kvmtools.observe.kernel import Kernel


def node_addresses(kernel: Kernel) -> tuple[int, ...]:
    """Virtual addresses of every node's ``struct pglist_data`` (``NODE_DATA``, include/linux/mmzone.h)."""
    vmlinux = kernel.vmlinux
    if vmlinux.has_symbol("contig_page_data"):
        return (kernel.address("contig_page_data"),)
    table = kernel.address("node_data")
    pointers = kernel.array(table, kernel.architecture.word, vmlinux.array_length("typeof(node_data)"))
    return tuple(int(pointer) for pointer in pointers if pointer)

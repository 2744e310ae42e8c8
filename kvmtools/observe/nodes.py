"""The memory nodes: one ``struct pglist_data``, or a table of them with NUMA.

Source: ``NODE_DATA``, ``struct pglist_data``, include/linux/mmzone.h (6.1).
"""

from __future__ import annotations

from kvmtools.observe.kernel import Kernel
from kvmtools.records import NodeSpan

NODE = "struct pglist_data"
_ONLY_NODE = "contig_page_data"


def node_addresses(kernel: Kernel) -> dict[int, int]:
    """Virtual address of every node's ``struct pglist_data``, by the node's number."""
    if _has_one_node(kernel):
        return {0: kernel.address(_ONLY_NODE)}
    table = kernel.array(kernel.address("node_data"), kernel.architecture.word, max_numnodes(kernel))
    return {number: address for number, address in enumerate(table.tolist()) if address}


def max_numnodes(kernel: Kernel) -> int:
    """``MAX_NUMNODES``: how many nodes the kernel was built for."""
    return 1 if _has_one_node(kernel) else kernel.vmlinux.array_length("typeof(node_data)")


def observe_nodes(kernel: Kernel) -> tuple[NodeSpan, ...]:
    """Where the nodes begin and end, by what ``pglist_data`` keeps; none without CONFIG_NUMA."""
    if max_numnodes(kernel) == 1:
        return ()
    return tuple(_span(kernel, number, address) for number, address in node_addresses(kernel).items())


def _has_one_node(kernel: Kernel) -> bool:
    """Whether it was built without CONFIG_NUMA."""
    return kernel.vmlinux.which_symbol(_ONLY_NODE, "node_data") == _ONLY_NODE


def _span(kernel: Kernel, number: int, address: int) -> NodeSpan:
    start = kernel.member(address, NODE, "node_start_pfn")
    return NodeSpan(number, start, start + kernel.member(address, NODE, "node_spanned_pages"))

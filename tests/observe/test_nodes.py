"""The memory nodes: one that is a variable, or those that a table leads to."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from kvmtools.errors import Absent
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.nodes import max_numnodes, node_addresses, observe_nodes
from kvmtools.observe.pages.memmap import observe_memmap
from kvmtools.observe.pages.pieces import memmap_pieces
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import NodeSpan

Patch = Callable[[int, bytes], None]


def test_a_kernel_for_one_node(recorded: Kernel) -> None:
    assert node_addresses(recorded) == {0: recorded.address("contig_page_data")}
    assert max_numnodes(recorded) == 1
    assert observe_nodes(recorded) == ()


def test_a_table_of_nodes(recorded: Kernel, patch: Patch) -> None:
    """Node 1 is not there; node 2 is a copy of node 0 with other borders."""
    node = recorded.address("contig_page_data")
    table = observe_memmap(recorded).pfn_to_page(20_000)  # some lowmem that nobody looks at here
    copy = table + 64
    start, spanned = (
        recorded.vmlinux.offset("struct pglist_data", member)
        for member in ("node_start_pfn", "node_spanned_pages")
    )
    patch(table, struct.pack("<4I", node, 0, copy - start, 0))
    patch(copy, struct.pack("<I", 0x4000))
    patch(copy + spanned - start, struct.pack("<I", 0x2000))
    document = recorded.vmlinux.to_json()
    answers = {
        "symbol contig_page_data": None,
        "symbol node_data": table - recorded.slide,
        "array_length typeof(node_data)": 4,
    }
    vmlinux = Vmlinux.from_json({**document, "answers": {**document["answers"], **answers}})
    several = replace(recorded, vmlinux=vmlinux)
    assert node_addresses(several) == {0: node, 2: copy - start}
    assert max_numnodes(several) == 4
    with pytest.raises(Absent, match="no mem_section"):
        memmap_pieces(several)
    first, second = observe_nodes(several)
    assert second == NodeSpan(2, 0x4000, 0x6000)
    assert first == NodeSpan(0, 1, recorded.variable("max_pfn"))

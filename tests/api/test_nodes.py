"""What is said of the zones and the pages of several nodes."""

from __future__ import annotations

from recorded_guest import load
from two_nodes import BORDER, two_nodes

from kvmtools.api.page_use import page_use


def test_pages_are_counted_by_node_and_zone() -> None:
    one = load("pae").observe()
    whole, parted = page_use(one), page_use(two_nodes(one))
    assert list(parted.zones)[2:8:4] == ["node 0 HIGHMEM", "node 1 HIGHMEM"]
    assert list(whole.zones) == ["DMA", "NORMAL", "HIGHMEM", "MOVABLE"]
    both = [sum(parted.zones[f"node {node} HIGHMEM"].values()) for node in (0, 1)]
    highmem = one.zones[2]
    assert both[0] == BORDER - highmem.start_pfn
    # To the end of the section there are no pages of RAM, and these are reserved.
    reserved = parted.zones["node 1 HIGHMEM"]["reserved"] - whole.zones["HIGHMEM"]["reserved"]
    assert both[1] == highmem.end_pfn - BORDER + reserved
    for name in ("DMA", "NORMAL"):
        assert parted.zones[f"node 0 {name}"] == whole.zones[name]
    for state in ("free", "per-cpu", "anonymous"):
        assert (
            sum(parted.zones[f"node {node} HIGHMEM"][state] for node in (0, 1))
            == whole.zones["HIGHMEM"][state]
        )
    assert "node 1 HIGHMEM" in repr(parted)
    page = parted.memmap.page(BORDER)
    assert (page["node"], page["zone"], page["section"]) == (1, "HIGHMEM", 0)

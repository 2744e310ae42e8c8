"""What an operation on the virtual mem_map costs: references, TLB entries and walks, counted by hand."""

from __future__ import annotations

import pytest
from virtual_maps import START, small

from kvmtools.errors import UsageError
from kvmtools.model.memmaps.metered_memory import Cost
from kvmtools.records import Range

MIB = 1 << 20


@pytest.mark.parametrize("operation", ["pfn_to_page", "page_to_pfn", "virt_to_page", "page_address"])
def test_conversions_cost_nothing(operation: str) -> None:
    argument = {"pfn_to_page": 0x123, "virt_to_page": 0xC0123000}.get(operation, START + 0x123 * 32)
    assert small(Range(0, 0x8000)).cost(operation, argument) == Cost(0, 0, 0)


def test_costs_of_pfn_valid_by_hand() -> None:
    """max_pfn, then an entry of each of the three levels, or one byte.

    The image, with max_pfn and the first table, is in the first large page of lowmem; the others are in its last.
    """
    small_leaves = small(Range(0, 0x8000))
    assert small_leaves.cost("pfn_valid", 0x123) == Cost(4, 2, 2)
    assert small_leaves.cost("pfn_valid_by_fault", 0x123) == Cost(2, 2, 1 + 2)
    assert small_leaves.cost("read", START) == Cost(1, 1, 2)
    large_leaves = small(Range(0, 0x8000), leaf=2 * MIB)
    # The page directory does not fit behind 2 MiB leaves' frames: it lies below them, in another large page.
    assert large_leaves.cost("pfn_valid", 0x123) == Cost(3, 2, 2)
    assert large_leaves.cost("pfn_valid_by_fault", 0x123) == Cost(2, 2, 1 + 1)
    assert large_leaves.cost("read", START) == Cost(1, 1, 1)
    non_pae = small(Range(0, 0x8000), with_pae=False, leaf=4 * MIB)
    # One level, in the image.
    assert non_pae.cost("pfn_valid", 0x123) == Cost(2, 1, 1)


def test_costs_of_an_invalid_pfn() -> None:
    mem_map = small(Range(0, 0x1), Range(0x1FFFF, 0x20000))
    assert mem_map.cost("pfn_valid", 0x20000) == Cost(1, 1, 1)
    assert mem_map.cost("pfn_valid_by_fault", 0x20000) == Cost(1, 1, 1)
    # No entry in the page table; a missing page costs a fault as well, as on ia64.
    assert mem_map.cost("pfn_valid", 0x80) == Cost(4, 2, 2)
    assert mem_map.cost("pfn_valid_by_fault", 0x80) == Cost(1, 1, 1, 1)
    # No entry in the directory.
    sparse = small(Range(0, 1), Range(0x1FFFF, 0x20000), size=2048)
    assert sparse.cost("pfn_valid", 0x8000) == Cost(3, 2, 2)


def test_costs_of_a_straddler() -> None:
    mem_map = small(Range(0, 300), size=40)
    assert mem_map.cost("pfn_valid", 101).references == 4
    assert mem_map.cost("pfn_valid", 102).references == 7
    assert mem_map.cost("pfn_valid_by_fault", 101).references == 2
    assert mem_map.cost("pfn_valid_by_fault", 102) == Cost(3, 3, 1 + 2 + 2)
    large = small(Range(0, 300), size=40, leaf=2 * MIB)
    # Within a large leaf software looks once; the probe goes by pages of 4 KiB, as ia64's.
    assert large.cost("pfn_valid", 102).references == 3
    assert large.cost("pfn_valid_by_fault", 102) == Cost(3, 2, 2)


def test_an_operation_must_exist() -> None:
    with pytest.raises(UsageError, match="no operation is named 'pfn_to_virt'") as caught:
        small().cost("pfn_to_virt", 1)
    assert caught.value.hint.endswith("page_address, read, pfn_valid_by_fault")

"""What a CPU's lists of free blocks are for, by order_to_pindex of each version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvmtools.model.buddy.per_cpu_lists import list_orders
from kvmtools.model.machine import configuration

SMALL = (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)


@pytest.mark.parametrize(
    ("era", "lists", "orders"),
    [
        ("5.10", 3, (0, 0, 0)),  # struct list_head lists[MIGRATE_PCPTYPES]
        ("6.1", 12, SMALL),
        ("7.2", 12, SMALL),
    ],
)
def test_small_blocks_have_a_list_for_each_migratetype(era: str, lists: int, orders: tuple[int, ...]) -> None:
    assert list_orders(configuration(era), lists) == orders


@pytest.mark.parametrize(
    ("era", "pae", "hugetlb", "order"),
    [
        # 6.1: pageblock_order, MIN_T(HUGETLB_PAGE_ORDER, MAX_ORDER - 1) or MAX_ORDER - 1.
        ("6.1", True, False, 10),
        ("6.1", False, False, 10),
        ("6.1", True, True, 9),
        ("6.1", False, True, 10),
        # 6.12: HPAGE_PMD_ORDER, whatever a pageblock is.
        ("6.12", True, False, 9),
        ("6.12", False, False, 10),
        ("7.2", True, True, 9),
    ],
)
def test_large_blocks_come_last(era: str, pae: bool, hugetlb: bool, order: int) -> None:
    told = replace(configuration(era, pae=pae), hugetlb=hugetlb)
    assert list_orders(told, 13) == (*SMALL, order)
    assert list_orders(told, 14) == (*SMALL, order, order)


def test_no_block_is_larger_than_the_largest() -> None:
    told = replace(configuration("6.12"), max_order=8)
    assert list_orders(told, 13)[-1] == 7

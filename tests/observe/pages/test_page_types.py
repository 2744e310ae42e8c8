"""``page_type`` in the three encodings that kernels have used (FACTS C.5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvmtools.observe.pages.page_types import page_types
from kvmtools.observe.symbols.vmlinux import SCHEMA, Vmlinux

NO_ENUM: dict[str, Any] = {"constant PGTY_buddy": None, "constant PG_buddy": None}
OLD = {"sizeof struct per_cpu_pageset": 40, "offset struct page memcg_data": None}
NEW = {"sizeof struct per_cpu_pageset": None, "offset struct page memcg_data": None}
BITS_IN_ENUM = {
    "PG_buddy": 0x4000_0000,
    "PG_offline": 0x2000_0000,
    "PG_table": 0x1000_0000,
    "PG_guard": 0x0800_0000,
}
BYTE = {
    "PGTY_buddy": 0xF0, "PGTY_offline": 0xF1, "PGTY_table": 0xF2, "PGTY_guard": 0xF3,
    "PGTY_hugetlb": 0xF4, "PGTY_slab": 0xF5, "PGTY_mapcount_underflow": 0xFF,
}  # fmt: skip

# (answers of the vmlinux, page_type of a free page, of a page table)
KERNELS = {
    "5.10": ({**NO_ENUM, **OLD}, 0xFFFF_FF7F, 0xFFFF_FBFF),
    "6.1": ({**NO_ENUM, **NEW}, 0xFFFF_FF7F, 0xFFFF_FDFF),
    "6.11": (
        {"constant PGTY_buddy": None, "constant PG_buddy": 0x4000_0000, "enumerators pagetype": BITS_IN_ENUM},
        0xBFFF_FFFF,
        0xEFFF_FFFF,
    ),
    "6.12": ({"constant PGTY_buddy": 0xF0, "enumerators pagetype": BYTE}, 0xF000_0000, 0xF200_0000),
}


@pytest.mark.parametrize("version", KERNELS)
def test_each_kernels_types_are_told_apart(version: str) -> None:
    answers, free, table = KERNELS[version]
    types = page_types(Vmlinux.from_json({"schema": SCHEMA, "build_id": "test", "answers": answers}))
    column = np.array([free, table, 0xFFFF_FFFF, 0, 7], np.uint32)
    assert types.of(column, "buddy").tolist() == [True, False, False, False, False]
    assert types.of(column, "table").tolist() == [False, True, False, False, False]
    assert types.any(column).tolist() == [True, True, False, False, False]
    assert [types.names_of(int(word)) for word in column] == [("buddy",), ("table",), (), (), ()]


def test_a_type_that_the_kernel_does_not_have_is_no_pages() -> None:
    types = page_types(
        Vmlinux.from_json({"schema": SCHEMA, "build_id": "test", "answers": {**NO_ENUM, **NEW}})
    )
    assert not types.of(np.array([0, 0xF500_0000], np.uint32), "slab").any()


@pytest.mark.parametrize(
    ("version", "least"),
    # PAGE_MAPCOUNT_RESERVE, and from 6.12 on PGTY_mapcount_underflow << 24 (include/linux/page-flags.h).
    [("5.10", -128), ("6.1", -128), ("6.11", -128), ("6.12", -0x0100_0000)],
)
def test_where_mapcounts_end_and_types_begin(version: str, least: int) -> None:
    answers = KERNELS[version][0]
    types = page_types(Vmlinux.from_json({"schema": SCHEMA, "build_id": "test", "answers": answers}))
    edge = np.array([least - 1, least, -1, 0], np.int32).view(np.uint32)
    assert types.any(edge).tolist() == [True, False, False, False]


def test_a_mapcount_below_zero_is_no_type() -> None:
    """The bits next to the sign are kept free, so that an underflow does not look like a type."""
    for answers in (KERNELS["6.1"][0], KERNELS["6.12"][0]):
        types = page_types(Vmlinux.from_json({"schema": SCHEMA, "build_id": "test", "answers": answers}))
        assert not types.any(np.array([-2, -3, -100], np.int32).view(np.uint32)).any()

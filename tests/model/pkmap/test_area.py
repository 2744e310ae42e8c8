"""The pkmap area, what its PTEs hold, and what a count means: against Gorman's account and 6.1 as measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvmtools.model.pkmap.area import (
    PkmapArea,
    bucket_of,
    expected_protection,
    legal_pair,
    user_count,
)
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration

Configure = Callable[..., Configuration]

PAE = PkmapArea(0xFF600000, 512, 0x8000000000000163)


def test_the_hash() -> None:
    """hash_ptr takes the top 7 bits of a 32-bit product; two multipliers were in use."""
    assert bucket_of(1, multiplier=0x61C88647) == 0x61C88647 >> 25 == 48
    assert bucket_of(2, multiplier=0x61C88647) == 0xC3910C8E >> 25
    assert bucket_of(0xC4000020, multiplier=0x61C88647) == ((0xC4000020 * 0x61C88647) % 2**32) // 2**25
    assert bucket_of(1, multiplier=0x9E370001) == 79
    assert bucket_of(0x100000001, multiplier=0x61C88647) == bucket_of(1, multiplier=0x61C88647)
    assert bucket_of(1, multiplier=0x61C88647, order=8) == 0x61C88647 >> 24


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0x8000000000000163),
        ({"pti": True}, 0x8000000000000063),
        ({"pge": False}, 0x8000000000000063),
        ({"nx": False}, 0x163),
        ({"pae": False}, 0x163),
        ({"pae": False, "pge": False}, 0x063),
    ],
)
def test_kmap_prot(configure: Configure, changes: dict[str, bool], expected: int) -> None:
    """[R] for the first and the fifth: what a slot's PTE holds besides the pfn."""
    assert expected_protection(configure(**changes)) == expected


@pytest.mark.parametrize(
    ("count", "present", "legal"),
    [
        (0, False, True),
        (0, True, False),
        (1, True, True),
        (1, False, False),
        (5, True, True),
        (-1, True, False),
        (-1, False, False),
    ],
)
def test_legal_pairs(count: int, present: bool, legal: bool) -> None:
    assert legal_pair(count, present) is legal


def test_user_count_is_never_negative() -> None:
    assert [user_count(count) for count in (-1, 0, 1, 2, 5)] == [0, 0, 0, 1, 4]


def test_slots_and_addresses(configure: Configure) -> None:
    assert PAE.slot_of(0xFF600000) == 0
    assert PAE.slot_of(0xFF7FFFFF) == 511
    assert PAE.slot_of(0xFF800000) is None
    assert PAE.slot_of(0xFF5FFFFF) is None
    assert PAE.address_of(511) == 0xFF7FF000
    assert PAE.pkmap_nr(0xFF601FFF) == 1
    assert PAE.pkmap_nr(0xFF5FF000) == -1
    assert Prediction(configure()).pkmap == PAE
    assert Prediction(configure(highmem=False, zone_names=("NORMAL", "MOVABLE"))).pkmap is None

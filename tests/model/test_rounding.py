"""Rounding, beside counting up to it."""

from __future__ import annotations

import pytest

from kvmtools.model.rounding import div_round_up, pfn_up, rounddown, roundup

SMALL = [(number, unit) for number in range(30) for unit in range(1, 9)]


@pytest.mark.parametrize(("number", "unit"), SMALL)
def test_the_neighbouring_multiples(number: int, unit: int) -> None:
    multiples = [unit * count for count in range(40)]
    above = [multiple for multiple in multiples if multiple >= number]
    assert roundup(number, unit) == above[0]
    assert div_round_up(number, unit) == multiples.index(above[0])
    assert rounddown(number, unit) == [multiple for multiple in multiples if multiple <= number][-1]


@pytest.mark.parametrize(
    ("size", "pages"), [(0, 0), (1, 1), (4095, 1), (4096, 1), (4097, 2), (1 << 36, 1 << 24)]
)
def test_pages_of_a_size(size: int, pages: int) -> None:
    assert pfn_up(size) == pages

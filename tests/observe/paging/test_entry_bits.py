"""Bit 7 and bit 12 mean different things in different entries; the names must follow."""

from __future__ import annotations

import pytest

from kvmtools.observe.paging.entry_bits import flags_text
from kvmtools.observe.paging.forms import NON_PAE, PAE

NX = 1 << 63


@pytest.mark.parametrize(
    ("entry", "level", "text"),
    [
        (0x1000163 | NX, 1, "P RW A D G NX"),
        (0x1000025, 1, "P US A"),
        (0x1000081, 1, "P PAT"),
        (0x1000081, 2, "P PSE"),
        (0x1001083, 2, "P RW PSE PAT"),
        (0x1001003, 2, "P RW"),
        (0x1001003 | NX, 2, "P RW NX"),
        (0x1001083 | NX, 2, "P RW PSE PAT NX"),
        (0x1000019, 3, "P PWT PCD"),
        (0x1000E01, 1, "P SW1 SW2 SW3"),
        (0, 1, "none"),
        (0x1000162, 1, "not present PROTNONE"),
        (0x1000062, 1, "not present"),
    ],
)
def test_names_of_pae_entries(entry: int, level: int, text: str) -> None:
    assert flags_text(entry, level, PAE) == text


def test_a_4_mib_page_is_named_in_the_pgd() -> None:
    assert NON_PAE.levels[0].name == "pgd"
    assert flags_text(0x4001E3, 2, NON_PAE) == "P RW A D PSE G"

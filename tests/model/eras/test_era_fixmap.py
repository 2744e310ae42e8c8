"""The fixmap of every era: how many slots it has, and where those begin that only boot uses."""

from __future__ import annotations

import pytest
from every_era import ALL, altered

from kvmtools.model import eras
from kvmtools.records import PAGE_SIZE


def test_the_top_of_2_4_leaves_two_pages() -> None:
    # 2.4.0 include/asm/fixmap.h: one page is left empty at the top of memory, and slot 0 is used.
    assert eras.named("2.4").fixaddr_top == (1 << 32) - 2 * PAGE_SIZE
    # 2.6.18 include/asm-i386/fixmap.h: slot 0 is FIX_HOLE.
    assert {era.fixaddr_top for era in ALL[1:]} == {(1 << 32) - PAGE_SIZE}


def test_fixmap_slots() -> None:
    # enum fixed_addresses without kmap slots: the hole, the vdso's page, a debug port and an early console, the local
    # APIC, IO-APICs, ACPI tables, PCI configuration, text_poke.
    assert [era.fixmap_slots for era in ALL] == [
        1 + 8,
        1 + 1 + 1 + 64 + 4 + 1,
        1 + 1 + 2 + 1 + 64 + 4 + 1,
        1 + 1 + 2 + 1 + 64 + 1 + 2,
        *[1 + 2 + 1 + 64 + 1] * 4,
    ]
    # kmap_types.h, kmap_size.h: KM_TYPE_NR, KM_MAX_IDX
    assert [era.kmap_slots_per_cpu for era in ALL] == [7, 13, 13, 19, 20, 16, 16, 16]
    # NR_FIX_BTMAPS * FIX_BTMAPS_SLOTS
    assert [era.fixmap_boot_slots for era in ALL] == [0, 16, 16, 64 * 4, *[64 * 8] * 4]


@pytest.mark.parametrize(
    ("name", "cpus", "pae", "permanent", "end"),
    [
        ("2.4", 4, True, 9 + 28, 37),  # nothing is kept for booting
        ("2.6.18", 1, False, 72 + 13, 85 + 16 + 1),  # the slots that follow, and that of the WP test
        ("2.6.32", 1, True, 72 + 19, 256 + 256 + 1),  # the next multiple of 256
        ("2.6.32", 80, False, 1592, 1792 + 256 + 1),
        ("6.1", 1, False, 85, 85 + 512 + 1),  # they fit in the table that slot 85 is in
        ("6.1", 1, True, 85, 512 + 512 + 1),  # they would not with 512 entries to a table
        ("6.1", 28, False, 517, 1024 + 512 + 1),  # nor with 1024
        ("5.10", 1, False, 89, 89 + 512 + 1),
    ],
)
def test_fixmap_ends(name: str, cpus: int, pae: bool, permanent: int, end: int) -> None:
    assert eras.named(name).fixmap(cpus, pae=pae) == (permanent, end)


@pytest.mark.parametrize(("pae", "entries"), [(False, 1024), (True, 512)])
def test_boot_slots_begin_where_the_headers_formulas_say(pae: bool, entries: int) -> None:
    for permanent in range(100, 2200):
        rounded = altered("2.6.32", fixmap_slots=permanent - 19).fixmap(1, pae=pae)
        assert rounded == (permanent, permanent + 256 - (permanent & 255) + 256 + 1)
        crosses = (permanent ^ (permanent + 512 - 1)) & -entries
        begin = permanent + 512 - (permanent & 511) if crosses else permanent
        whole = altered("6.1", fixmap_slots=permanent - 16).fixmap(1, pae=pae)
        assert whole == (permanent, begin + 512 + 1)

"""Configurations that were never built: the reason is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.impossible import refuse_impossible
from kvmtools.model.machine import configuration
from kvmtools.records import Configuration


def refuse(found: Configuration) -> None:
    refuse_impossible(found, eras.shown(found.marks))


@pytest.mark.parametrize(
    ("era", "changes", "reason"),
    [
        ("2.4", {"sparsemem": True}, "2.4 has no SPARSEMEM"),
        ("2.4", {"page_offset": 0x80000000}, "none that 2.4 offers with PAE: 0xc0000000$"),
        ("2.6.18", {"page_offset": 0x40000000}, "none that 2.6.18 offers with PAE: 0xc0000000$"),
        ("2.6.18", {"pae": False, "page_offset": 0x80000000}, "none that 2.6.18 offers without PAE"),
        (
            "6.1",
            {"pae": False, "page_offset": 0xC0400000},
            "0xc0400000 is none .* without PAE: 0xc0000000, 0xb0000000, 0x80000000, 0x78000000, 0x40000000$",
        ),
        ("6.1", {"page_offset": 0xB0000000}, "0xb0000000 is not on a boundary of 1024 MiB, what one entry"),
        ("6.1", {"page_offset": 0x78000000}, "0x78000000 is not on a boundary of 1024 MiB"),
        ("6.1", {"pae": False, "page_offset": 0xC0200000}, "not on a boundary of 4 MiB"),
        ("6.1", {"page_offset": 0}, "PAGE_OFFSET 0x0 is not on a boundary"),
        ("6.1", {"pae": False, "pti": True}, "isolation on i386 needs PAE"),
        ("2.6.32", {"pti": True}, "2.6.32 has no page-table isolation"),
        ("2.4", {"highmem": False}, "2.4 has PAE as CONFIG_HIGHMEM64G only"),
        ("2.6.18", {"highmem": False}, "2.6.18 has PAE as CONFIG_HIGHMEM64G only"),
        ("6.1", {"nr_cpus": 0}, "NR_CPUS is 0"),
        ("6.1", {"cpu_entry_area_size": 4097}, "entry_area. = 4097 is not a number of whole pages"),
        ("6.1", {"cpu_entry_area_size": 0}, "entry_area. = 0 is not"),
        ("6.1", {"cpu_entry_area_size": -4096}, "entry_area. = -4096 is not"),
        ("6.1", {"fixmap_slots": (8, 7)}, "permanent fixmap slots end after all fixmap slots"),
    ],
)
def test_refused(era: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=f"^no i386 kernel has this configuration: .*{reason}"):
        refuse(configuration(era, **changes))


@pytest.mark.parametrize(
    ("era", "changes", "reason"),
    [
        ("2.4", {"nx": True}, "kernels of 2.4 never set the NX bit"),
        ("6.1", {"pae": False, "page_offset": 0xC0000000, "nx": True}, "without PAE paging has no NX bit"),
        ("2.4", {"zone_names": ("DMA", "NORMAL", "HIGHMEM", "MOVABLE")}, "2.4 has no zone MOVABLE"),
        ("6.1", {"highmem": False}, "zone HIGHMEM and CONFIG_HIGHMEM go together"),
        ("6.1", {"zone_names": ("DMA", "NORMAL")}, "zone HIGHMEM and CONFIG_HIGHMEM go together"),
        ("6.1", {"zone_names": ("DMA", "HIGHMEM")}, "without zone NORMAL does not exist"),
        ("6.1", {"max_order": 0}, "the buddy allocator has no orders"),
    ],
)
def test_refused_of_a_guest(era: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        refuse(replace(configuration(era), **changes))


@pytest.mark.parametrize(
    ("era", "changes"),
    [
        ("2.4", {}),
        ("2.4", {"pae": False, "highmem": False}),
        ("2.6.18", {"pae": False, "highmem": False, "page_offset": 0xB0000000}),
        ("2.6.18", {"sparsemem": True}),
        ("2.6.24", {"highmem": False}),
        ("2.6.32", {"cpu_entry_area_size": 1}),
        ("5.10", {"pti": True}),
        ("5.10", {"pae": False, "page_offset": 0x78000000}),
        ("7.2", {"highmem": False}),
        ("7.2", {"page_offset": 0x40000000}),
        ("6.1", {"nr_cpus": 1}),
        ("6.1", {"cpu_entry_area_size": 4096}),
        ("6.1", {"fixmap_slots": (8, 8)}),
    ],
)
def test_let_pass(era: str, changes: dict[str, Any]) -> None:
    refuse(configuration(era, **changes))


@pytest.mark.parametrize("era", eras.NAMES)
def test_one_order_and_zones_of_its_own_are_enough(era: str) -> None:
    refuse(replace(configuration(era), max_order=1))
    assert "MOVABLE" in configuration("2.6.24").zone_names

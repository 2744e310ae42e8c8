"""The layout of ``page->flags`` in configurations that our own guests do not have (FACTS C.4)."""

from __future__ import annotations

from typing import Any

import pytest

from kvmtools.observe.pages.page_flags import (
    Field,
    flag_layout,
    lru_generations,
    zone_names,
)
from kvmtools.observe.symbols.memory_model import number_of_sections
from kvmtools.observe.symbols.vmlinux import SCHEMA, Vmlinux

FLAGS = {
    "PG_locked": 0,
    "PG_uptodate": 1,
    "PG_reclaim": 2,
    "__NR_PAGEFLAGS": 23,
    "PG_readahead": 2,
    "PG_reported": 1,
}
FOUR = {"ZONE_DMA": 0, "ZONE_NORMAL": 1, "ZONE_HIGHMEM": 2, "ZONE_MOVABLE": 3, "__MAX_NR_ZONES": 4}
TWO = {"ZONE_NORMAL": 0, "ZONE_MOVABLE": 1, "__MAX_NR_ZONES": 2}


def vmlinux(
    *, zones: dict[str, int] = FOUR, sections: int = 0, nodes: int = 1, generations: int = 0
) -> Vmlinux:
    answers: dict[str, Any] = {
        "sizeof pte_t": 4,
        "enumerators pageflags": FLAGS,
        "enumerators zone_type": zones,
        "symbol mem_section": 0xC100_0000 if sections else None,
        "sizeof typeof(mem_section)": sections * 8,
        "sizeof struct mem_section": 8,
        "array_length struct zonelist _zonerefs": nodes * (len(zones) - 1) + 1,
        "offset struct lru_gen_struct timestamps": 4 if generations else None,
        "array_length struct lru_gen_struct timestamps": generations,
    }
    return Vmlinux.from_json({"schema": SCHEMA, "build_id": "test", "answers": answers})


def test_where_the_fields_are_is_not_known_here() -> None:
    layout = flag_layout(vmlinux(sections=128))
    assert (layout.zone, layout.node, layout.section) == (None, None, None)
    assert layout.names_of(100 << 25 | 2 << 23 | 0b101) == ("PG_locked", "PG_reclaim")


def test_fields_are_taken_out_of_flags() -> None:
    flags = 100 << 25 | 2 << 23 | 0b101
    assert (Field(25, 7).of(flags), Field(23, 2).of(flags), Field(25, 0).of(flags)) == (100, 2, 0)


@pytest.mark.parametrize("generations", [0, 4])
def test_the_generations_of_the_lru_are_as_many_as_there_is_room_for(generations: int) -> None:
    assert lru_generations(vmlinux(generations=generations)) == generations


def test_a_bit_has_one_name_and_may_have_others() -> None:
    layout = flag_layout(vmlinux())
    assert layout.names == {"PG_locked": 0, "PG_uptodate": 1, "PG_reclaim": 2}
    assert layout.aliases == {"PG_readahead": 2, "PG_reported": 1}
    assert layout.bit("PG_readahead") == layout.bit("PG_reclaim") == 4


def test_zones_are_named_in_order() -> None:
    assert zone_names(vmlinux()) == ("DMA", "NORMAL", "HIGHMEM", "MOVABLE")
    assert number_of_sections(vmlinux()) == 0
    assert number_of_sections(vmlinux(sections=64)) == 64

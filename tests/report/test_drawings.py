"""The geometry of the page's drawings: every cell is drawn once, areas fill the address space without a gap."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from surveys import STATES, healthy

from kvmtools.report.page.address_space import areas, space_data, space_rows
from kvmtools.report.page.memory_map import COLUMNS, memory_drawing
from kvmtools.report.page.reported import FindingPlaces
from kvmtools.report.page.zone_bars import zone_bars
from kvmtools.survey import PageMap, ZoneFill

BAR = re.compile(r"M(\d+) (\d+)h(\d+)v(\d+)h-(\d+)z")
DOT = re.compile(r"M(\d+)\.3 (\d+)\.3h\.4v\.4h-\.4z")

cell_counts = st.lists(st.integers(0, 8), min_size=len(STATES), max_size=len(STATES)).map(tuple)
runs_of_cells = st.lists(st.tuples(st.integers(1, 3 * COLUMNS), cell_counts), min_size=1, max_size=20)


def cells_of(path: str) -> Counter[tuple[int, int]]:
    """The cells that bars cover; the path consists of nothing else."""
    assert BAR.sub("", path) == ""
    covered: Counter[tuple[int, int]] = Counter()
    for x, y, wide, high, back in (map(int, found) for found in BAR.findall(path)):
        assert wide == back
        covered.update((x + right, y + down) for right in range(wide) for down in range(high))
    return covered


@given(runs_of_cells)
def test_every_cell_has_the_colour_of_most_of_its_pages(runs: list[tuple[int, tuple[int, ...]]]) -> None:
    pages = PageMap(0, 8, STATES, tuple(runs))
    drawing = memory_drawing(pages, (), FindingPlaces())
    expected = [counts for number, counts in runs for _ in range(number)]
    by_state = {state.name: cells_of(state.most) for state in drawing.states}
    everything = sum(by_state.values(), Counter())
    places = [(cell % COLUMNS, cell // COLUMNS) for cell in range(len(expected))]
    assert everything == Counter(places)
    for place, counts in zip(places, expected, strict=True):
        (name,) = (name for name, cells in by_state.items() if place in cells)
        assert counts[STATES.index(name)] == max(counts)
    assert drawing.rows == -(-len(expected) // COLUMNS)
    assert {state.name: state.pages for state in drawing.states} == {
        name: sum(counts[number] for counts in expected) for number, name in enumerate(STATES)
    }


def test_the_middle_shows_a_second_state_if_it_has_an_eighth() -> None:
    def some(*counts: int) -> dict[str, list[tuple[str, str]]]:
        drawing = memory_drawing(PageMap(8, 8, ("free", "slab", "hole"), ((1, counts),)), (), FindingPlaces())
        return {state.name: DOT.findall(state.some) for state in drawing.states if state.some}

    assert some(7, 1, 0) == {"slab": [("0", "0")]}
    assert some(15, 1, 0) == {}
    assert some(8, 0, 0) == {}


@pytest.mark.parametrize("name", ["pae", "nopae", "numa"])
@pytest.mark.parametrize("side", ["live", "model"])
def test_areas_fill_the_address_space(name: str, side: str) -> None:
    space = healthy(name).space
    assert space is not None
    found = areas(space, side)
    assert found[0].end == space.end
    assert found[-1].start == space.start
    assert all(above.start == below.end for above, below in pairwise(found))
    assert {"direct map", "pkmap", "fixmap"} <= {area.name for area in found}
    assert [row.edge.name for row in space_rows(space)][-1] == "page_offset"


@pytest.mark.parametrize("name", ["pae", "nopae", "numa"])
def test_the_table_counts_every_byte_once(name: str) -> None:
    """What the guest does not write down (of the LDT, the CPU entry area) is where the model has it."""
    space = healthy(name).space
    assert space is not None
    assert any(edge.live is None for edge in space.boundaries)
    below = [row.below for row in space_rows(space) if row.below is not None]
    assert all(above.start == area.end for above, area in pairwise(below))
    assert below[-1].start == space.start
    assert {"LDT", "CPU entry area", "boot-time fixmap"} <= {area.name for area in below}
    assert {"LDT", "CPU entry area"} <= {area.name for area in areas(space, "live")}


def test_a_model_that_says_nothing_has_no_areas() -> None:
    space = healthy().space
    assert space is not None
    lone = replace(space, boundaries=tuple(replace(edge, model=None) for edge in space.boundaries), era=None)
    assert areas(lone, "model") == []
    assert {"direct map", "pkmap", "fixmap"} <= {area.name for area in areas(lone, "live")}
    data = space_data(lone, FindingPlaces())
    assert data is not None
    assert data["model"] == []


def test_a_zone_is_drawn_by_what_is_known_of_it() -> None:
    unknown = ZoneFill("DMA", "zone DMA", None, None, None, None, None, None, None)
    full = ZoneFill("A b", "zone A", 1, 9, 8, 8, 9, {"min": 2, "high": 80}, (("MOVABLE", (0, 1, 900)),))
    nothing, bar = zone_bars([unknown, full], FindingPlaces())
    assert (nothing.fill, nothing.marks, nothing.rows) == (0, (), ())
    assert bar.anchor == "zone-A-b"
    assert bar.fill == 1000
    assert bar.marks == (("min", 2, 250), ("high", 80, 1000))
    ((name, cells),) = bar.rows
    assert (name, [cell.blocks for cell in cells], [cell.pages for cell in cells]) == (
        "MOVABLE",
        [0, 1, 900],
        [0, 2, 3600],
    )
    assert [cell.shade for cell in cells] == [0, 1, 5]

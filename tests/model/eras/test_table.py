"""The eras' table in itself: its order, its types, and the file that every cell names."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from every_era import ALL

from kvmtools.model.eras import COLUMNS, NAMES, Era
from kvmtools.model.eras.columns import Column, PairColumn

VERSION = r"2\.4\.0|2\.4\.16|2\.4\.18-14|2\.6\.18|2\.6\.24|2\.6\.32|5\.10|6\.1|6\.12|7\.2"
SOURCE = re.compile(
    rf"(?P<version>{VERSION}) [a-z][\w./-]*(\.(h|c|S|in|lds|rst)|Kconfig(\.debug)?|Makefile)( |,|;|$)"
)
CELLS = {
    f"{field}-{cell.since}": (cell.since, cell.source)
    for field, column in COLUMNS.items()
    for cell in column.cells
}


@pytest.mark.parametrize("field", COLUMNS)
def test_cells_are_in_order_and_no_value_stands_twice(field: str) -> None:
    cells = COLUMNS[field].cells
    firsts = [cell[0] for cell in cells]
    assert firsts[0] == NAMES[0]
    assert firsts == sorted(set(firsts), key=NAMES.index)
    assert all(this[1] != following[1] for this, following in pairwise(cells))


@pytest.mark.parametrize(("first", "source"), CELLS.values(), ids=CELLS)
def test_every_cell_names_a_file_of_its_own_era(first: str, source: str) -> None:
    match = SOURCE.match(source)
    assert match, source
    version = match["version"]
    assert version.startswith("2.4.") if first == "2.4" else version == first
    assert "://" not in source


def test_every_field_is_a_column_of_the_table() -> None:
    assert {name for name in dir(Era) if isinstance(getattr(Era, name), Column)} == set(COLUMNS)
    assert next(iter(COLUMNS)) == "marks"


class Imagined:
    """A row of a table with a single column."""

    def __init__(self, name: str) -> None:
        self.name = name

    switch = Column[int](("2.4", 1, "first"), ("2.6.32", 2, "second"), ("6.12", 3, "third"))


def test_a_value_holds_until_the_next_cell() -> None:
    assert [Imagined(name).switch for name in NAMES] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert Imagined.switch.at("5.10") == ("2.6.32", 2, "second")


def test_pairs() -> None:
    pairs = [field for field, column in COLUMNS.items() if isinstance(column, PairColumn)]
    assert pairs == ["page_offsets", "section_size_bits", "max_physmem_bits"]
    for era in ALL:
        for pair in (getattr(era, field) for field in pairs):
            assert pair is None or len(pair) == 2

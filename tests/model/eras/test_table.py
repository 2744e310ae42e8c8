"""The eras' table in itself: its order, its types, and the file that every cell names."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import pairwise

import pytest
from every_era import ALL

from kvmtools.model import eras
from kvmtools.model.eras import NAMES, Era
from kvmtools.model.eras.table import PAIRS, TABLE

VERSION = r"2\.4\.0|2\.4\.16|2\.4\.18-14|2\.6\.18|2\.6\.24|2\.6\.32|5\.10|6\.1|6\.12|7\.2"
SOURCE = re.compile(
    rf"(?P<version>{VERSION}) [a-z][\w./-]*(\.(h|c|S|in|lds|rst)|Kconfig(\.debug)?|Makefile)( |,|;|$)"
)
CELLS = [(field, *cell) for field, cells in TABLE.items() for cell in cells]


@pytest.mark.parametrize("field", TABLE)
def test_cells_are_in_order_and_no_value_stands_twice(field: str) -> None:
    cells = TABLE[field]
    firsts = [cell[0] for cell in cells]
    assert firsts[0] == NAMES[0]
    assert firsts == sorted(set(firsts), key=NAMES.index)
    assert all(this[1] != following[1] for this, following in pairwise(cells))


@pytest.mark.parametrize(("field", "first", "value", "source"), CELLS, ids=[f"{f}-{s}" for f, s, *_ in CELLS])
def test_every_cell_names_a_file_of_its_own_era(field: str, first: str, value: object, source: str) -> None:
    match = SOURCE.match(source)
    assert match, source
    version = match["version"]
    assert version.startswith("2.4.") if first == "2.4" else version == first
    assert "://" not in source
    assert getattr(eras.named(first), field) == value
    assert eras.source(first, field) == source


def test_every_field_has_its_cells() -> None:
    assert {field.name for field in fields(Era)} == {"name", *TABLE}


@pytest.mark.parametrize("field", [field.name for field in fields(Era) if field.name != "name"])
def test_values_have_the_types_that_readers_are_told(field: str) -> None:
    annotation = {each.name: str(each.type) for each in fields(Era)}[field]
    allowed = {
        "bool": (bool,),
        "int": (int,),
        "int | None": (int, type(None)),
        "str": (str,),
    }.get(annotation, (tuple, type(None)) if "None" in annotation else (tuple,))
    for era in ALL:
        assert type(getattr(era, field)) in allowed, era.name


def test_pairs() -> None:
    for era in ALL:
        for field in PAIRS:
            pair = getattr(era, field)
            assert pair is None or len(pair) == 2
    assert {field for field in TABLE if "tuple[int, int]" in str(Era.__annotations__[field])} - {
        "list_poison"
    } < PAIRS

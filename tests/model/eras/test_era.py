"""The way to an era, by its name or by the marks that a kernel shows, and from a value to its source."""

from __future__ import annotations

import pytest
from every_era import ALL, SIX_ONE

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.eras import COLUMNS, NAMES
from kvmtools.records import MARKS


def test_names_are_in_order_of_age() -> None:
    ages = [tuple(map(int, name.split("."))) for name in NAMES]
    assert ages == sorted(ages)
    assert len(NAMES) == 8
    assert [eras.named(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("2.6.19", "; it lies between 2.6.18 and 2.6.24"),
        ("2.4.0", "; it lies between 2.4 and 2.6.18"),
        ("3.10", "; it lies between 2.6.32 and 5.10"),
        ("6.1.100", "; it lies between 6.1 and 6.12"),
        ("6.1.0", "; it lies between 6.1 and 6.12"),
        ("6.01", ""),
        ("06.1", ""),
        ("7.1", "; it lies between 6.12 and 7.2"),
        ("7.3", "; the oldest is 2.4, the newest 7.2"),
        ("2.2.26", "; the oldest is 2.4, the newest 7.2"),
        ("zork", ""),
        ("6", ""),
        ("6.", ""),
        ("6.1000", ""),
        ("6.1.1.1.1", ""),
    ],
)
def test_an_era_that_does_not_exist(asked: str, near: str) -> None:
    with pytest.raises(UsageError) as raised:
        eras.named(asked)
    assert raised.value.message == f"no era is named {asked!r}{near}"
    assert raised.value.hint == "the eras are 2.4, 2.6.18, 2.6.24, 2.6.32, 5.10, 6.1, 6.12, 7.2"


@pytest.mark.parametrize("name", NAMES)
def test_marks_select_their_era(name: str) -> None:
    own = frozenset(eras.named(name).marks)
    assert own
    older = frozenset().union(*(era.marks for era in ALL[: NAMES.index(name)]))
    assert not own & older
    assert eras.shown(own).name == name
    assert eras.shown(own | older).name == name
    assert eras.shown(own | {"a symbol of no meaning"}).name == name


def test_all_marks_of_an_era_are_needed() -> None:
    # The CPU entry area came with 4.15, page_type with 4.18.
    assert eras.named("5.10").marks == ("page.page_type", "cpu_entry_area.tss")
    for mark in eras.named("5.10").marks:
        assert eras.shown(frozenset(("page.flags", mark))).name == "2.4"


@pytest.mark.parametrize(
    ("release", "first_had", "era"),
    [
        ("2.6.22", 2, "2.6.18"),  # zones know their span; CFS is for 2.6.23
        ("3.10", 4, "2.6.32"),  # vmap_area is there, page_type is not
        ("5.4", 6, "5.10"),  # page_type and the CPU entry area
        ("5.15", 7, "6.1"),  # kmap_local
        ("6.6", 7, "6.1"),
        ("6.18", 9, "7.2"),  # trylock_free_pages came with 6.15
    ],
)
def test_a_kernel_between_two_eras(release: str, first_had: int, era: str) -> None:
    assert eras.shown(frozenset(MARKS[:first_had])).name == era, release


def test_a_kernel_that_shows_nothing() -> None:
    with pytest.raises(UsageError, match="shows no era's marks") as raised:
        eras.shown(frozenset())
    assert raised.value.hint == "an i386 kernel of any era has page.flags"


def test_the_observer_looks_for_every_mark() -> None:
    assert [mark for era in ALL for mark in era.marks] == list(MARKS)


def test_a_value_holds_until_the_next_cell() -> None:
    assert eras.source("2.6.24", "fixaddr_top") == eras.source("2.6.18", "fixaddr_top") != ""
    assert eras.source("2.4", "fixaddr_top").startswith("2.4.0 include/asm/fixmap.h")
    assert eras.source("7.2", "kmap_slots_per_cpu") == eras.source("6.1", "kmap_slots_per_cpu")


def test_sources_of_what_does_not_exist() -> None:
    with pytest.raises(UsageError, match=r"no era is named '2\.5'"):
        eras.source("2.5", "pkmap_base")
    with pytest.raises(UsageError, match="no era has a field 'pkmap_bse'") as raised:
        eras.source("2.4", "pkmap_bse")
    assert raised.value.hint == f"the fields are {', '.join(COLUMNS)}"


def test_eras_are_frozen() -> None:
    with pytest.raises(AttributeError):
        SIX_ONE.max_order = 12  # type: ignore[misc]
    with pytest.raises(AttributeError):
        SIX_ONE.max_orders = 12  # type: ignore[attr-defined]
    assert SIX_ONE.max_order == 11

"""``model eras``: the whole table, eras side by side, one field; text and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kvmtools.cli.model.eras import beside, complete_field
from kvmtools.model import eras
from kvmtools.model.eras import COLUMNS

Invoke = Callable[..., Any]


def fields_of(invoke: Invoke, *words: str) -> dict[str, dict[str, Any]]:
    """Every era's fields, from JSON."""
    document = json.loads(invoke("model", "eras", *words, "--format", "json").out)
    assert document["schema"] == "kvmtools/1"
    assert document["command"] == "model eras"
    return {era["era"]: era["fields"] for era in document["eras"]}


def lines_of(invoke: Invoke, *words: str) -> list[str]:
    lines: list[str] = invoke("model", "eras", *words).out.splitlines()
    assert all(len(line) <= 100 and line == line.rstrip() for line in lines)
    return lines


def test_json_is_complete(invoke: Invoke) -> None:
    every = fields_of(invoke)
    assert tuple(every) == eras.NAMES
    for name, fields in every.items():
        assert list(fields) == list(COLUMNS)
        assert all(cell["source"] == eras.source(name, field) for field, cell in fields.items())


def test_json_writes_addresses_in_hex_and_pairs_as_objects(invoke: Invoke) -> None:
    old, new = (fields_of(invoke)[name] for name in ("2.4", "6.1"))
    assert old["pkmap_base"]["value"] == "0xfe000000"
    assert new["pkmap_base"]["value"] is None
    assert new["max_order"]["value"] == 11
    assert new["pti"]["value"] is True
    assert new["section_size_bits"]["value"] == {"non_pae": 26, "pae": 29}
    assert old["section_size_bits"]["value"] is None
    assert new["page_offsets"]["value"]["pae"] == ["0xc0000000", "0x80000000", "0x40000000"]
    assert new["software_bits"]["value"] == [[9, "special"]]
    assert new["hole_mapcount"]["value"] == -1


def test_some_eras_and_fields(invoke: Invoke) -> None:
    some = fields_of(invoke, "2.4", "7.2", "--field", "max_order", "--field", "numa")
    assert list(some) == ["2.4", "7.2"]
    assert [list(fields) for fields in some.values()] == [["max_order", "numa"]] * 2


def test_text_has_a_line_for_every_new_value(invoke: Invoke) -> None:
    assert lines_of(invoke, "--field", "pkmap_below", "--field", "software_bits") == [
        "field                        since   value",
        "pkmap_below                  2.4     fixed",
        "                             2.6.18  fixmap",
        "                             5.10    ldt",
        "software_bits                2.4     none",
        "                             2.6.32  9 special, 10 iomap, 11 hidden",
        "                             5.10    9 special",
        "                             6.12    9 special, 10 saved_dirty",
        "                             7.2     9 special, 10 saved_dirty, 11 kernel_4k",
    ]


def test_text_with_sources(invoke: Invoke) -> None:
    assert lines_of(invoke, "--field", "highpte", "--sources") == [
        "field                        since   value",
        "highpte                      2.4     no",
        "                                     2.4.18-14 include/asm-i386/pgalloc.h pte_alloc_one",
        "                             2.6.18  yes",
        "                                     2.6.18 arch/i386/mm/pgtable.c pte_alloc_one",
        "                             7.2     no",
        "                                     7.2 arch/x86/Kconfig",
    ]


def test_the_whole_table_names_every_field_and_source(invoke: Invoke) -> None:
    lines = lines_of(invoke, "--sources")
    assert [line.split()[0] for line in lines[1:] if line[0] != " "] == list(COLUMNS)
    words = " ".join(" ".join(lines).split())
    assert all(source in words for column in COLUMNS.values() for _, _, source in column.cells)


def test_eras_side_by_side(invoke: Invoke) -> None:
    lines = lines_of(invoke, "2.4", "6.1", "--field", "pkmap_base", "--field", "page_offsets")
    assert lines == [
        "field                        2.4                                 6.1",
        "pkmap_base                   0xfe000000                          -",
        "page_offsets                 0xc0000000 | 0xc0000000             0xc0000000, 0xb0000000,",
        "                                                                 0x80000000, 0x78000000, 0x40000000",
        "                                                                 | 0xc0000000, 0x80000000,",
        "                                                                 0x40000000",
    ]


def test_side_by_side_with_sources_once_each(invoke: Invoke) -> None:
    lines = lines_of(invoke, "6.1", "6.12", "--field", "max_order", "--field", "read_only_dirty", "--sources")
    assert [line.strip() for line in lines[1:]] == [
        "max_order                    11                                  11",
        "2.6.18 include/linux/mmzone.h MAX_ORDER",
        "read_only_dirty              yes                                 no",
        "2.4.16 include/asm-i386/pgtable.h __PAGE_KERNEL_RO",
        "6.12 arch/x86/include/asm/pgtable_types.h __PAGE_KERNEL_RO",
    ]


def test_only_what_differs(invoke: Invoke) -> None:
    changed = fields_of(invoke, "5.10", "6.1", "--changed")["6.1"]
    older, newer = (fields_of(invoke)[name] for name in ("5.10", "6.1"))
    assert list(changed) == [field for field in COLUMNS if older[field]["value"] != newer[field]["value"]]
    assert "kmap_slots" in changed
    assert "fixaddr_top" not in changed
    assert lines_of(invoke, "5.10", "6.1", "--changed", "--field", "fixaddr_top") == ["nothing differs"]


@pytest.mark.parametrize("names", [(), ("6.1",), ("6.1", "6.1")])
def test_one_era_has_not_changed(invoke: Invoke, names: tuple[str, ...]) -> None:
    outcome = invoke("model", "eras", *names, "--changed")
    assert outcome.code == 2
    assert "--changed compares eras" in str(outcome.error)


@pytest.mark.parametrize(("columns", "width"), [(80, 80), (200, 100), (20, 60), (100, 100)])
def test_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, width: int) -> None:
    """As far as that, for a word of a name is never cut."""
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    lines = list(beside(("2.4", "6.1"), COLUMNS, False))
    assert max(map(len, lines)) in range(width - 4, width + 1)


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("pkmap", "; did you mean pkmap_base or pkmap_below?"),
        ("hash_multiplyer", "; did you mean hash_multiplier?"),
        ("foo", ""),
        ("", ""),
    ],
)
def test_a_field_that_does_not_exist(invoke: Invoke, asked: str, near: str) -> None:
    said = str(invoke("model", "eras", "--field", asked).error)
    assert said == f"no era has a field {asked!r}{near} (kvmtools model eras shows them all)"


def test_too_many_eras_for_a_screen(invoke: Invoke) -> None:
    outcome = invoke("model", "eras", *eras.NAMES)
    assert outcome.code == 2
    assert str(outcome.error) == "8 eras do not fit side by side (name fewer, or none for all)"
    assert len(lines_of(invoke, *eras.NAMES[:6], "--field", "kmap_slots")) > 2
    assert list(fields_of(invoke, *eras.NAMES)) == list(eras.NAMES)


@pytest.mark.parametrize("words", [("6.11",), ("--field", "zork")])
def test_no_such_thing(invoke: Invoke, words: tuple[str, ...]) -> None:
    outcome = invoke("model", "eras", *words)
    assert outcome.code == 2
    assert words[-1] in str(outcome.error)


def test_fields_complete() -> None:
    found = [item.value for item in complete_field(None, None, "pkmap_")]  # type: ignore[arg-type]
    assert found == ["pkmap_base", "pkmap_below"]

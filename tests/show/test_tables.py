"""Columns line up, sizes are short and true."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.show.tables import columns, hexadecimal, permissions, size, table


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (5, "5 B"),
        (4096, "4 KiB"),
        (84 << 10, "84 KiB"),
        ((8 << 20) - 8192, "8184 KiB"),
        (885 << 20, "885 MiB"),
        ((885 << 20) + 4096, "885.0 MiB"),
        (3 << 30, "3 GiB"),
        ((2 << 30) - 4096, "2.0 GiB"),
        (1500, "1.5 KiB"),
        (60 << 30, "60 GiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@given(st.integers(0, 1 << 36))
def test_a_size_is_right_within_a_rounding(number: int) -> None:
    value, unit = size(number).split()
    scale = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
    assert abs(float(value) * scale - number) <= (scale * 0.051 if "." in value else 0)


def test_a_table_lines_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = table(columns("name >two_words"), [("a", 1), ("longer", 12345678901)])
    assert text.splitlines() == ["name      two words", "a                 1", "longer  12345678901"]


def test_headings_are_bold_only_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert table(columns("a"), []).startswith("\x1b[1m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert table(columns("a"), []) == "a"


def test_addresses_in_json_are_padded_strings() -> None:
    assert hexadecimal(0x1000) == "0x1000"
    assert hexadecimal(0x1_8000_0000, 9) == "0x180000000"
    assert hexadecimal(None) is None


def test_permissions() -> None:
    assert permissions(True, False, True) == "rw- user"
    assert permissions(False, True, False) == "r-x kernel"

"""The pictures show what they are given, and nothing else."""

from __future__ import annotations

from io import StringIO

import pytest

from kvmtools.show.drawing import Boundary, address_space_picture, slot_mark, slots_picture
from kvmtools.show.style import colour


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(
    ("count", "present", "mark"),
    [
        (0, False, "."),
        (1, True, "o"),
        (2, True, "1"),
        (10, True, "9"),
        (11, True, "+"),
        (1000, True, "+"),
        (-1, False, "!"),
        (-1, True, "!"),
        (0, True, "!"),
        (3, False, "!"),
    ],
)
def test_marks_of_slots(count: int, present: bool, mark: str) -> None:
    assert slot_mark(count, present) == mark


def test_every_slot_is_drawn_once_and_the_cursor_below_it() -> None:
    marks = ["."] * 512
    marks[65] = "3"
    lines = list(slots_picture(marks, 0xFF60_0000, 65))
    rows = [line for line in lines if "^" not in line]
    assert len(rows) == 8
    assert "".join(line[16:] for line in rows) == "".join(marks)
    caret = next(number for number, line in enumerate(lines) if "^" in line)
    assert lines[caret - 1].startswith("  64  ff640000  ")
    assert lines[caret - 1][lines[caret].index("^")] == "3"


def test_slots_without_a_known_base() -> None:
    assert list(slots_picture(["."], None, 7)) == ["   0            ."]


def test_boundaries_agree_differ_or_are_not_known() -> None:
    edges = [
        Boundary("fixaddr_top", 0xFFFF_F000, 0xFFFF_F000),
        Boundary("ldt_end", None, 0xFFA0_0000),
        Boundary("pkmap_base", 0xFF60_0000, 0xFF40_0000),
        Boundary("", 0, None),
    ]
    assert [edge.agrees for edge in edges] == [True, None, False, None]
    lines = list(address_space_picture(edges, ["fixmap", "LDT", "below"]))
    assert lines[0] == "fffff000  ┬── fixaddr_top            = model"
    assert "fixmap" in lines[1]
    assert "6140 KiB" in lines[1]
    assert lines[2] == "   ?      ┼── ldt_end                ? model: ffa00000"
    assert lines[4] == "ff600000  ┼── pkmap_base             ≠ model: ff400000"
    assert lines[6] == "00000000  ┴──"


def test_two_boundaries_in_one_place_have_nothing_between_them() -> None:
    edges = [
        Boundary("ldt_end", 0xFFC0_0000, None),
        Boundary("cea", 0xFFC0_0000, None),
        Boundary("", 0, None),
    ]
    assert len(list(address_space_picture(edges, ["LDT", "user"]))) == 4


def test_neighbours_of_one_colour_share_their_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    (line, _caret) = slots_picture([*"....oo11...."], None, 0)
    assert line.count("\x1b[0m") == 2, line


def test_a_dumb_terminal_has_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colour(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not colour(Terminal())

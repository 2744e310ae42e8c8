"""The forms bit by bit, as the processor's manual tabulates them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from kvmtools.model.paging.forms import Level, PagingForm, long_mode, non_pae, pae
from kvmtools.records import Range


class Row(NamedTuple):
    """A level; bits are written as the manual writes them, ``"51:36 8 2:1"``."""

    name: str
    number: int
    index: str
    """Bits of the virtual address that choose the entry."""
    next_table: str
    leaf: str
    reserved: str
    leaf_reserved: str
    permissions: bool = True
    leaf_high: str = ""
    """Bits of a leaf that are address bits from 32 on."""


def mask(text: str) -> int:
    """The bits of ``"51:36 8"`` as a number."""
    found = 0
    for part in text.split():
        high, _, low = part.partition(":")
        for bit in range(int(low or high), int(high) + 1):
            found |= 1 << bit
    return found


ADDRESSES_OF_32_BITS = (Range(0, 0x1_0000_0000),)
CANONICAL = (Range(0, 0x8000_0000_0000), Range(0xFFFF_8000_0000_0000, 0x1_0000_0000_0000_0000))
PTE = Row("pte", 1, "21:12", "", "31:12", "", "")


@pytest.mark.parametrize(
    ("make", "options", "rows"),
    [
        # 4.3, tables 4-4 to 4-6.  PSE-36 by MAXPHYADDR: none, one bit, four, eight, and never more.
        (non_pae, {}, [Row("pgd", 2, "31:22", "31:12", "31:22", "", "21:13"), PTE]),
        (non_pae, {"pse": False}, [Row("pgd", 2, "31:22", "31:12", "", "", "21:13"), PTE]),
        (
            non_pae,
            {"physical_bits": 33},
            [Row("pgd", 2, "31:22", "31:12", "31:22", "", "21:14", leaf_high="13"), PTE],
        ),
        (
            non_pae,
            {"physical_bits": 36},
            [Row("pgd", 2, "31:22", "31:12", "31:22", "", "21:17", leaf_high="16:13"), PTE],
        ),
        (
            non_pae,
            {"physical_bits": 40},
            [Row("pgd", 2, "31:22", "31:12", "31:22", "", "21", leaf_high="20:13"), PTE],
        ),
        (
            non_pae,
            {"physical_bits": 52},
            [Row("pgd", 2, "31:22", "31:12", "31:22", "", "21", leaf_high="20:13"), PTE],
        ),
        # 4.4, tables 4-8 to 4-11; bit 5 of a PDPTE is forgiven.
        (
            pae,
            {"physical_bits": 36},
            [
                Row("pgd", 3, "31:30", "35:12", "", "63:36 8:6 2:1", "", permissions=False),
                Row("pmd", 2, "29:21", "35:12", "35:21", "62:36", "62:36 20:13"),
                Row("pte", 1, "20:12", "", "35:12", "", "62:36"),
            ],
        ),
        (
            pae,
            {"nx": False},
            [
                Row("pgd", 3, "31:30", "51:12", "", "63:52 8:6 2:1", "", permissions=False),
                Row("pmd", 2, "29:21", "51:12", "51:21", "63:52", "63:52 20:13"),
                Row("pte", 1, "20:12", "", "51:12", "", "63:52"),
            ],
        ),
        # 4.5, tables 4-15 to 4-20.
        (
            long_mode,
            {"physical_bits": 40},
            [
                Row("pgd", 4, "47:39", "39:12", "", "51:40 7", ""),
                Row("pud", 3, "38:30", "39:12", "39:30", "51:40", "51:40 29:13"),
                Row("pmd", 2, "29:21", "39:12", "39:21", "51:40", "51:40 20:13"),
                Row("pte", 1, "20:12", "", "39:12", "", "51:40"),
            ],
        ),
        (
            long_mode,
            {"nx": False, "gib_pages": False},
            [
                Row("pgd", 4, "47:39", "51:12", "", "63 7", ""),
                Row("pud", 3, "38:30", "51:12", "", "63 7", "63 29:13"),
                Row("pmd", 2, "29:21", "51:12", "51:21", "63", "63 20:13"),
                Row("pte", 1, "20:12", "", "51:12", "", "63"),
            ],
        ),
    ],
)
def test_every_bit(make: Callable[..., PagingForm], options: dict[str, Any], rows: list[Row]) -> None:
    form = make(**options)
    assert len(form.levels) == len(rows)
    for level, row in zip(form.levels, rows, strict=True):
        assert (level.name, level.number, level.permissions) == (row.name, row.number, row.permissions)
        assert (1 << level.bits) - 1 << level.shift == mask(row.index)
        assert level.span == mask(row.index) & -mask(row.index)
        for field in ("next_table", "leaf", "reserved", "leaf_reserved"):
            assert getattr(level, field) == mask(getattr(row, field)), (row.name, field)
        assert level.leaf_high[0] == mask(row.leaf_high)


@pytest.mark.parametrize(
    ("make", "name", "letter", "root", "windows", "nx", "registers"),
    [
        # Tables 4-3, 4-7 and 4-12: CR3 has 32 bits without long mode.
        (lambda: non_pae(physical_bits=40), "non-PAE", "I", "31:12", ADDRESSES_OF_32_BITS, False, False),
        (lambda: pae(physical_bits=40), "PAE", "Q", "31:5", ADDRESSES_OF_32_BITS, True, True),
        (lambda: long_mode(physical_bits=40), "4-level", "Q", "39:12", CANONICAL, True, False),
    ],
    ids=["non-PAE", "PAE", "4-level"],
)
def test_every_form(
    make: Callable[[], PagingForm],
    name: str,
    letter: str,
    root: str,
    windows: tuple[Range, ...],
    nx: bool,
    registers: bool,
) -> None:
    form = make()
    assert (form.name, form.entry, form.root) == (name, letter, mask(root))
    assert form.windows == windows
    assert (form.nx, form.pointer_registers) == (nx, registers)


@pytest.mark.parametrize(
    ("level", "bit"),
    [(2, 12), (1, 7)],
    ids=["large", "small"],
)
def test_where_the_pat_bit_is(level: int, bit: int) -> None:
    # Tables 4-4 and 4-6.
    (found,) = (each for each in non_pae().levels if each.number == level)
    assert isinstance(found, Level)
    assert found.pat == 1 << bit

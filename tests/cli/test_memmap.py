"""``memmap PAGE``: the ways to name a page, and what is shown of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kvmtools.api.pages import Page
from kvmtools.show.page_use import heading
from kvmtools.show.pages import page_json, page_lines

Invoke = Callable[..., Any]
MakePage = Callable[..., Page]


@pytest.mark.usefixtures("tiny")
def test_pages_by_every_name(invoke: Invoke) -> None:
    document = json.loads(invoke("memmap", "512", "0x200", "phys:0x200fff", "c0504000", "--format=json").out)
    assert [page["pfn"] for page in document["pages"]] == [512] * 4
    assert document["pages"][0]["physical"] == "0x000200000"
    assert document["pages"][0]["flag_names"] == ["PG_reserved"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("text", ["8192", "0xc0504001", "0xffffffff", "zork"])
def test_what_is_no_page(invoke: Invoke, text: str) -> None:
    outcome = invoke("memmap", text, "512")
    assert outcome.code == 2
    assert outcome.err.startswith(f"kvmtools: '{text}'")
    assert outcome.out.startswith("pfn 0x200 (512)")
    assert outcome.out.count("struct page") == 1


@pytest.mark.usefixtures("tiny")
def test_what_names_no_page_does_not_hide_the_others(invoke: Invoke) -> None:
    words = ("memmap", "512", "zork", "8192", "513")
    outcome = invoke(*words)
    assert outcome.code == 2
    assert [line for line in outcome.out.splitlines() if line.startswith("pfn")] == [
        line for line in invoke("memmap", "512", "513").out.splitlines() if line.startswith("pfn")
    ]
    complaints = outcome.err.splitlines()
    assert [complaint.split("'")[1] for complaint in complaints] == ["zork", "8192"]
    document = json.loads(invoke(*words, "--format=json").out)
    assert [page["pfn"] for page in document["pages"]] == [512, 513]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("zone NORMAL", "refcount 1", "mapcount 0", "reserved")),
        (
            {
                "flag_names": (),
                "flags": 0,
                "refcount": 0,
                "mapcount": None,
                "page_type": 0xFFFF_FF7F,
                "type_names": ("buddy",),
                "buddy_order": 10,
            },
            ("no flag", "page_type 0xffffff7f", "free, head of a block of order 10"),
        ),
        ({"flag_names": ("PG_lru",), "anonymous": True, "mapping": 0xC300_0000}, ("(anonymous)", "in use")),
        ({"flag_names": (), "compound_head": 0x123}, ("tail of the compound page at pfn 0x123",)),
        ({"flag_names": (), "refcount": 0}, ("free (inside a block, or on a per-CPU list)",)),
        ({"section": 5}, ("section 5",)),
        ({"flag_names": (), "type_names": ("table",), "mapcount": None}, ("table",)),
    ],
)
def test_one_page_in_full(a_page: MakePage, changes: dict[str, object], words: tuple[str, ...]) -> None:
    text = "\n".join(page_lines(a_page(0x200, **changes)))
    for word in words:
        assert word in text


def test_a_page_as_json_keeps_every_field(a_page: MakePage) -> None:
    page = a_page(1)
    shown = page_json(page)
    assert set(shown) == {*vars(page), "physical"}
    assert shown["flags"] == "0x1000"
    assert json.loads(json.dumps(shown)) == shown


@pytest.mark.usefixtures("tiny")
def test_a_physical_address_without_its_prefix(invoke: Invoke) -> None:
    wrong = invoke("memmap", "0x1234000")
    assert wrong.code == 2
    assert "phys:0x1234000" in wrong.err
    assert "phys:" not in invoke("memmap", "0x7fff0000").err


def the_heading(*pieces: tuple[int, int, int]) -> list[str]:
    """What is said of arrays of ``struct page`` at ``(start_pfn, end_pfn, address)``."""
    listed = [
        SimpleNamespace(start_pfn=start, pages=end - start, virtual=address) for start, end, address in pieces
    ]
    return heading(listed, sum(piece.pages for piece in listed), 32).splitlines()


def test_one_array_has_one_address() -> None:
    assert the_heading((0, 0x4000, 0xF5A0_0000)) == ["mem_map at 0xf5a00000: 16,384 struct page of 32 bytes"]
    # Two sections, the array of the one behind that of the other.
    together = the_heading((0, 0x4000, 0xF5A0_0000), (0x4000, 0x8000, 0xF5A8_0000))
    assert together == ["mem_map at 0xf5a00000: 32,768 struct page of 32 bytes"]


@pytest.mark.parametrize(
    ("second", "pfns"),
    [
        ((0x4000, 0x8000, 0xF5A8_0020), ["0x0-0x4000", "0x4000-0x8000"]),
        ((0x8000, 0xC000, 0xF5A8_0000), ["0x0-0x4000", "0x8000-0xc000"]),
    ],
)
def test_every_array_is_said(second: tuple[int, int, int], pfns: list[str]) -> None:
    first, _heads, *rows = the_heading((0, 0x4000, 0xF5A0_0000), second)
    assert first == "mem_map in 2 pieces: 32,768 struct page of 32 bytes"
    assert [row.split() for row in rows] == [[pfns[0], "0xf5a00000"], [pfns[1], f"{second[2]:#x}"]]


def test_an_array_that_does_not_begin_with_pfn_0() -> None:
    assert the_heading((0x4000, 0x8000, 0xF5A0_0000))[0].startswith("mem_map in 1 piece: ")

"""``memmap PAGE``: the ways to name a page, and what is shown of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.show.pages import page_json, page_lines

Invoke = Callable[..., Any]
MakePage = Callable[..., dict[str, Any]]


@pytest.mark.usefixtures("tiny")
def test_pages_by_every_name(invoke: Invoke) -> None:
    document = json.loads(invoke("memmap", "512", "0x200", "phys:0x200fff", "c0504000", "--format=json").out)
    assert [page["pfn"] for page in document["pages"]] == [512] * 4
    assert document["pages"][0]["physical"] == "0x000200000"
    assert document["pages"][0]["flag_names"] == ["PG_reserved"]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("text", ["8192", "0xc0504001", "0xffffffff", "zork"])
def test_what_is_no_page(invoke: Invoke, text: str) -> None:
    outcome = invoke("memmap", text)
    assert outcome.code == 2
    assert f"'{text}'" in str(outcome.error)


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
    assert set(shown) == {*page, "physical"}
    assert shown["flags"] == "0x1000"
    assert json.loads(json.dumps(shown)) == shown


@pytest.mark.usefixtures("tiny")
def test_a_physical_address_without_its_prefix(invoke: Invoke) -> None:
    wrong = invoke("memmap", "0x1234000")
    assert wrong.code == 2
    assert "phys:0x1234000" in str(wrong.error)
    assert "phys:" not in str(invoke("memmap", "0x7fff0000").error)

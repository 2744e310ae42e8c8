"""``walk`` on a tiny guest: runs, entries, ranges, regions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Invoke = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("tiny")


def test_runs(invoke: Invoke) -> None:
    lines = invoke("walk").out.splitlines()
    assert lines[0] == "swapper_pg_dir, cr3 0x1000, PAE: 4 leaves, 1 of them large, map 2060 KiB"
    assert [line.split()[0] for line in lines[2:]] == [
        "c0001000-c0002fff",
        "c0200000-c03fffff",
        "ffffe000-ffffefff",
    ]
    assert "2 × 4 KiB" in lines[2]
    assert "r-x kernel" in lines[3]
    assert lines[4].endswith("fixmap")


def test_to_the_end_that_a_run_is_printed_with(invoke: Invoke) -> None:
    everything = invoke("walk").out
    assert invoke("walk", "--to", "0x100000000").out == everything
    outcome = invoke("walk", "--from", "0x100000000")
    assert outcome.code == 2
    assert "'0x100000000' does not fit in 32 bits" in str(outcome.error)


def test_raw_entries_in_json(invoke: Invoke) -> None:
    document = json.loads(invoke("walk", "--raw", "--format", "json").out)
    assert document["page_table"] == {"name": "swapper_pg_dir", "cr3": "0x1000", "form": "PAE"}
    assert [entry["entry"] for entry in document["entries"]] == [
        "0x8000000000001163",
        "0x8000000000002163",
        "0x00000000002001e1",
        "0x80000000fec0017b",
    ]
    assert document["entries"][0] == {
        "virtual": "0xc0001000",
        "page_size_bytes": 4096,
        "physical": "0x000001000",
        "table": "0x000003000",
        "index": 1,
        "entry": "0x8000000000001163",
        "writable": True,
        "user": False,
        "executable": False,
        "flags": "P RW A D G NX",
        "region": "direct map",
    }
    assert document["entries"][-1]["region"] == "fixmap slot FIX_APIC_BASE"


def test_two_walks_are_byte_identical(invoke: Invoke) -> None:
    assert invoke("walk", "--format", "json").out == invoke("walk", "--format", "json").out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--from", "0xc0002000", "--to", "0xc0200000"), ["0xc0002000"]),
        (("--from", "linux_banner"), ["0xc0200000", "0xffffe000"]),
        (("--to", "0xc0001001"), ["0xc0001000"]),
        (("--region", "fixmap"), ["0xffffe000"]),
        (("--region", "vmalloc"), []),
        (("--cpu", "1"), []),
    ],
)
def test_a_part_of_it(invoke: Invoke, words: tuple[str, ...], expected: list[str]) -> None:
    document = json.loads(invoke("walk", "--raw", *words, "--format", "json").out)
    assert [entry["virtual"] for entry in document["entries"]] == expected


def test_nonsense(invoke: Invoke) -> None:
    assert "is empty" in str(invoke("walk", "--from", "0xc0002000", "--to", "0xc0002000").error)
    unknown = invoke("walk", "--region", "nonsense")
    assert unknown.code == 2
    assert "vmalloc" in str(unknown.error)


def test_the_head_counts_what_is_listed(invoke: Invoke) -> None:
    assert (
        invoke("walk", "--region", "fixmap")
        .out.splitlines()[0]
        .endswith("1 leaf, 0 of them large, map 4 KiB")
    )
    assert (
        invoke("walk", "--region", "vmalloc").out
        == "swapper_pg_dir, cr3 0x1000, PAE: nothing is mapped here\n"
    )


def test_a_region_without_blanks(invoke: Invoke) -> None:
    assert invoke("walk", "--region", "direct-map").out == invoke("walk", "--region", "direct map").out
    assert "c0001000" in invoke("walk", "--region", "direct-map").out


def test_a_table_that_is_nowhere(invoke: Invoke) -> None:
    nowhere = invoke("walk", "--cr3", "0xfff00000")
    assert nowhere.code == 3
    assert "table at 0xfff00000 lies outside RAM" in str(nowhere.error)
    assert invoke("walk", "--cr3", "0x100000000").code == 2

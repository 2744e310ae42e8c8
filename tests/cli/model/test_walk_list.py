"""``model walk`` without an address: all that is mapped, run by run, and what is malformed."""

from __future__ import annotations

from pathlib import Path

import pytest
from walks import Invoke, data, vector

from kvmtools.cli.model import walk_list


def test_the_list_of_a_file(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", vector("non-pae-4m"))
    assert outcome.code == 0
    assert outcome.out.splitlines()[2:] == [
        "virtual   physical   size   page  access      region",
        "c0400000    400000  4 MiB  4 MiB  rwx kernel",
        "c0800000    800000  4 MiB  4 MiB  rwx user",
        "2 leaves, 2 of them large",
    ]


def test_the_list_names_what_is_malformed(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", vector("pae-2m-reserved"))
    assert outcome.code == 1
    assert outcome.out.splitlines()[-2:] == [
        "malformed: 0x00000000: pmd[0] at 0x2000 = 0x2020e3: reserved bits 0x2000 are set",
        "malformed: 0x00200000: pmd[1] at 0x2000 = 0x3000e3: reserved bits 0x100000 are set",
    ]
    document = data(invoke, vector("pae-2m-reserved"), code=1)
    assert document["leaves"] == 1
    assert [run["virtual"] for run in document["runs"]] == ["0x400000"]
    assert [fault["virtual"] for fault in document["malformed"]] == ["0x0", "0x200000"]
    assert document["malformed"][0]["reason"] == "reserved bits 0x2000 are set"


def test_neighbours_are_one_line_if_their_frames_are_too(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "tables"
    entries = "0x1000[0] = 0x2067\n" + "".join(
        f"0x2000[{index}] = {entry:#x}\n"
        for index, entry in enumerate((0x7067, 0x8067, 0x9065, 0xA065, 0xC065, 0, 0xE065))
    )
    path.write_text(f"form non-pae\ncr3 0x1000\n{entries}")
    runs = data(invoke, str(path))["runs"]
    assert [(run["virtual"], run["physical"], run["size_bytes"], run["writable"]) for run in runs] == [
        ("0x0", "0x000007000", 8192, True),
        ("0x2000", "0x000009000", 8192, False),
        ("0x4000", "0x00000c000", 4096, False),
        ("0x6000", "0x00000e000", 4096, False),
    ]


def test_nothing_mapped_is_a_list_too(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "tables"
    path.write_text("form pae\ncr3 0x1000\n0x1000[0] = 0x0\n")
    outcome = invoke("model", "walk", str(path))
    assert (outcome.code, outcome.out.splitlines()[1:]) == (0, ["", "0 leaves, 0 of them large"])


def test_one_leaf(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "tables"
    path.write_text("form non-pae\ncr3 0x1000\n0x1000[0] = 0xe7\n")
    assert invoke("model", "walk", str(path)).out.splitlines()[-1] == "1 leaf, 1 of them large"


def test_tables_without_end_are_not_listed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert walk_list.MOST == 1 << 20
    monkeypatch.setattr(walk_list, "MOST", 1000)
    path = tmp_path / "tables"
    path.write_text("form 4-level\ncr3 0x1000\n0x1000[0..511] = 0x1067\n")
    outcome = invoke("model", "walk", str(path))
    assert outcome.code == 2
    assert "more than 1,000 leaves" in str(outcome.error)
    assert invoke("model", "walk", str(path), "0x7fffffffffff").code == 0


def test_a_list_ends_a_line_where_a_region_ends(invoke: Invoke) -> None:
    # All is one row of large pages alike; the last one reaches 128 KiB beyond RAM, which are the firmware's.
    runs = data(invoke, "--era", "2.6.18", "--no-pae", "--memory", "512M")["runs"]
    assert [(run["virtual"], run["region"]) for run in runs] == [
        ("0xc0000000", "low memory and kernel text"),
        ("0xc02c0000", "kernel image"),
        ("0xc0400000", "direct map"),
        ("0xdffe0000", "rest of the last large page"),
    ]
    assert [run["physical"] for run in runs] == ["0x000000000", "0x0002c0000", "0x000400000", "0x01ffe0000"]
    assert [run["size_bytes"] for run in runs] == [0x2C0000, 0x140000, (508 << 20) - 0x20000, 0x20000]
    assert {run["page_size_bytes"] for run in runs} == {4 << 20}


def test_the_list_of_a_kernel(invoke: Invoke) -> None:
    # 896 MiB of direct map in large pages: all that a 2.4 kernel has at boot.
    (run,) = data(invoke, "--era", "2.4")["runs"]
    assert run == {
        "virtual": "0xc0000000",
        "size_bytes": 896 << 20,
        "physical": "0x000000000",
        "page_size_bytes": 2 << 20,
        "writable": True,
        "user": False,
        "executable": True,
        "region": "direct map",
    }

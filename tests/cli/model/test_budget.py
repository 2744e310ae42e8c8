"""``kvmtools model budget``: the table, one machine's bill, JSON, and the curves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

Invoke = Callable[..., Any]
MIB, GIB = 1 << 20, 1 << 30
FAR_APART = "0-2G,32G-34G"


def rows(text: str, first: str) -> dict[str, list[str]]:
    """The lines of a table by their first cell, which ends with two blanks."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.lstrip().startswith(first))
    table: dict[str, list[str]] = {}
    for line in lines[start + 1 :]:
        if not line:
            break
        head, *cells = [cell.strip() for cell in line.strip().split("  ") if cell.strip()]
        table[head] = cells
    return table


def test_a_row_for_every_size(invoke: Invoke) -> None:
    table = rows(invoke("model", "budget").out, "RAM")
    assert list(table) == ["512 MiB", *(f"{1 << n} GiB" for n in range(7))]
    # used, FLATMEM, SPARSEMEM, virtual by 4 KiB and by large leaves, both from lowmem.  6.1 with NR_CPUS=4 has 885.99
    # MiB of lowmem; 17 GiB of pfns cost 136 MiB, 32 sections 128.
    assert table["16 GiB"] == [
        "16.0 GiB",
        "750.0 MiB",
        "758.0 MiB",
        "749.7 MiB",
        "750.0 MiB",
        "621.7 MiB",
        "622.0 MiB",
    ]
    assert table["64 GiB"][-2:] == ["no boot", "no boot"]


def test_where_every_kind_stops(invoke: Invoke) -> None:
    out = invoke("model", "budget", "--sizeof-page", "64").out
    table = rows(out, "kind")
    assert table["SPARSEMEM"] == [
        "54 GiB",
        "mem_map takes 109 pieces of 8.0 MiB, and lowmem has room for 108",
    ]
    assert "one" not in table
    assert rows(invoke("model", "budget").out, "kind")["FLATMEM"] == [
        "64 GiB",
        "none above 64 GiB is used: PAE reaches 36 bits",
    ]
    assert rows(invoke("model", "budget", "--no-pae").out, "kind")["FLATMEM"] == [
        "4 GiB",
        "none above 4 GiB is used: no PAE",
    ]
    for words, why in (
        (("--era", "7.2"), "none above 4 GiB is used: 7.2 has no HIGHMEM64G"),
        (("--no-highmem",), "none above 888.0 MiB is used: no HIGHMEM"),
        (("--append", "mem=2G"), "the command line leaves no more RAM"),
    ):
        assert rows(invoke("model", "budget", *words).out, "kind")["FLATMEM"] == ["64 GiB", why]
    never = rows(invoke("model", "budget", "--sizeof-page", "4096").out, "kind")
    assert never["FLATMEM"] == ["never"]


def test_non_pae_ends_at_4_gib(invoke: Invoke) -> None:
    assert list(rows(invoke("model", "budget", "--no-pae").out, "RAM")) == [
        "512 MiB",
        "1 GiB",
        "2 GiB",
        "4 GiB",
    ]


def test_one_machine(invoke: Invoke) -> None:
    out = invoke("model", "budget", "--e820", FAR_APART).out
    assert out.splitlines()[:2] == [
        "kernel 6.1, PAE, PAGE_OFFSET c0000000, struct page of 32 bytes",
        "4.0 GiB of RAM in use, lowmem 886.0 MiB if the map were free",
    ]
    table = rows(out, "kind")
    assert list(table) == [
        "FLATMEM",
        "SPARSEMEM",
        "4K/high",
        "2M/high",
        "4K/low",
        "2M/low",
    ]
    # left, of it NORMAL, lost, virtual space, share (FACTS F)
    assert table["4K/high"] == ["613.9 MiB", "597.9 MiB", "272.1 MiB", "272.1 MiB", "26.6%"]
    # window, memory, from lowmem, page tables
    (line,) = [line.split("  ") for line in out.splitlines() if line.endswith("64 KiB  64 KiB")]
    assert [cell.strip() for cell in line if cell] == ["4K/high", "272 MiB", "32.1 MiB", "64 KiB", "64 KiB"]


def test_lines_are_no_wider_than_100(invoke: Invoke) -> None:
    for words in (
        (),
        ("--memory", "16G"),
        ("--e820", FAR_APART),
        ("--era", "7.2", "--memory", "64G"),
        ("--memory", "64G"),
    ):
        assert max(map(len, invoke("model", "budget", *words).out.splitlines())) <= 100


def test_every_column_has_its_legend(invoke: Invoke) -> None:
    out = invoke("model", "budget", "--memory", "4G").out
    heads = (
        "left",
        "NORMAL",
        "lost",
        "virtual",
        "share",
        "window",
        "memory",
        "in lowmem",
        "tables",
        "2M/low, ...",
    )
    assert all(f"{head}: " in out for head in heads)
    assert "4M/high" in rows(invoke("model", "budget", "--no-pae", "--memory", "1G").out, "kind")
    assert "2M/low, ...: a virtual map" in invoke("model", "budget").out


def test_ram_that_is_not_used(invoke: Invoke) -> None:
    out = invoke("model", "budget", "--era", "7.2", "--memory", "8G").out
    lines = out.splitlines()
    assert lines[1].startswith("3.0 GiB of RAM in use, lowmem ")
    assert lines[2] == "none above 4 GiB is used: 7.2 has no HIGHMEM64G"


def test_both_sides_of_the_argument(invoke: Invoke) -> None:
    out = invoke("model", "budget", "--e820", FAR_APART).out
    assert (
        "Lameter    a virtual map needs 64 KiB of lowmem's memory, FLATMEM 272 MiB; holes save it 240 MiB\n"
        in out
    )
    assert (
        "Whitcroft  but its window needs 272 MiB of virtual space, holes included\n"
        "           so lowmem's loss: 272.1 MiB with it, 272 MiB with FLATMEM, 32.0 MiB with SPARSEMEM\n"
    ) in out
    old = invoke("model", "budget", "--era", "2.4", "--memory", "1G").out
    assert "SPARSEMEM" not in old
    assert ", 16 MiB with FLATMEM\n" in old


def test_nobody_loses_what_a_kernel_that_does_not_boot_would(invoke: Invoke) -> None:
    """2.4 with 64 GiB: a mem_map of 1 GiB beside 896 MiB of lowmem."""
    out = invoke("model", "budget", "--era", "2.4", "--memory", "64G").out
    assert out.endswith("           so lowmem's loss: no boot with it, no boot with FLATMEM\n")
    assert rows(out, "kind")["FLATMEM"][:3] == ["no boot", "-", "-"]
    sparse = invoke("model", "budget", "--memory", "64G", "--sizeof-page", "56").out.splitlines()[-1]
    assert sparse.endswith("so lowmem's loss: no boot with it, no boot with FLATMEM, no boot with SPARSEMEM")
    holes = invoke("model", "budget", "--sizeof-page", "64", "--e820", "0-2G,62G-64G").out.splitlines()[-1]
    assert holes.endswith("no boot with it, no boot with FLATMEM, 64.0 MiB with SPARSEMEM")


def test_a_machine_that_does_not_boot(invoke: Invoke) -> None:
    out = invoke("model", "budget", "--memory", "64G").out
    assert rows(out, "kind")["4K/low"][:2] == ["no boot", "-"]
    assert "\nvirtual 4K lowmem does not boot: beside a window of 512.0 MiB, lowmem lacks " in out
    assert "FLATMEM does not boot" not in out


def test_json_of_one_machine(invoke: Invoke) -> None:
    document = json.loads(invoke("model", "budget", "--memory", "64G", "--format", "json").out)
    assert {
        key: document[key] for key in ("schema", "command", "era", "pae", "page_offset", "sizeof_page_bytes")
    } == {
        "schema": "kvmtools/1",
        "command": "model budget",
        "era": "6.1",
        "pae": True,
        "page_offset": "0xc0000000",
        "sizeof_page_bytes": 32,
    }
    (machine,) = document["machines"]
    assert machine["memory_bytes"] == 64 * GIB
    assert machine["used_bytes"] == 63 * GIB - 0x20000 - 98 * 4096
    by_kind = {bill["kind"]: bill for bill in machine["kinds"]}
    assert by_kind["virtual 4K highmem"] == {
        "kind": "virtual 4K highmem",
        "memory_model": "virtual",
        "large_leaves": False,
        "lowmem_backed": False,
        "boots": True,
        "refusal": None,
        "lowmem_left_bytes": 0x375FE000 - 512 * MIB - 252 * 4096,
        "normal_left_bytes": 0x375FE000 - 528 * MIB - 252 * 4096,
        "lost_bytes": 512 * MIB + 252 * 4096,
        "lowmem_bytes": 0x375FE000 - 512 * MIB,
        "virtual_bytes": 512 * MIB + 252 * 4096,
        "virtual_share": 0.500961,
        "window_bytes": 512 * MIB,
        "physical_bytes": 504 * MIB + 252 * 4096,
        "from_lowmem_bytes": 252 * 4096,
        "from_highmem_bytes": 504 * MIB,
        "page_tables_bytes": 252 * 4096,
        "mem_section_bytes": 0,
        "usemap_bytes": 8192,
    }
    refused = by_kind["virtual large lowmem"]
    assert (refused["boots"], refused["large_leaves"], refused["lowmem_backed"]) == (False, True, True)
    assert refused["refusal"].startswith("beside a window")
    assert "limits" not in document


def test_json_of_a_map(invoke: Invoke) -> None:
    document = json.loads(invoke("model", "budget", "--e820", FAR_APART, "--format", "json").out)
    assert document["machines"][0]["memory_bytes"] is None


def test_json_of_all_sizes(invoke: Invoke) -> None:
    document = json.loads(invoke("model", "budget", "--sizeof-page", "64", "--format", "json").out)
    assert [machine["memory_bytes"] for machine in document["machines"]] == [1 << n for n in range(29, 37)]
    limits = {limit["kind"]: limit for limit in document["limits"]}
    assert limits["SPARSEMEM"] == {
        "kind": "SPARSEMEM",
        "memory_bytes": 54 * GIB,
        "reason": "mem_map takes 109 pieces of 8.0 MiB, and lowmem has room for 108",
    }
    never = json.loads(invoke("model", "budget", "--sizeof-page", "4096", "--format", "json").out)["limits"][
        0
    ]
    assert (never["memory_bytes"], never["reason"]) == (None, None)
    free = json.loads(invoke("model", "budget", "--format", "json").out)["limits"][0]
    # The same that the text says.
    assert (free["memory_bytes"], free["reason"]) == (
        64 * GIB,
        "none above 64 GiB is used: PAE reaches 36 bits",
    )


def test_memory_that_is_asked_for_is_one_machine_even_if_it_is_the_default(invoke: Invoke) -> None:
    assert "\n4.0 GiB of RAM in use, lowmem" in invoke("model", "budget", "--memory", "4G").out


def test_a_kernel_that_cannot_be(invoke: Invoke) -> None:
    outcome = invoke("model", "budget", "--split", "3G_OPT")
    assert outcome.code == 2
    assert "PAGE_OFFSET" in str(outcome.error) or "VMSPLIT" in str(outcome.error)


# -- curves -----------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def words(path: Path) -> list[str]:
    """What is written in a picture."""
    return ["".join(text.itertext()) for text in ElementTree.parse(path).iter(f"{SVG}text")]


def test_the_curves(invoke: Invoke, tmp_path: Path) -> None:
    picture = tmp_path / "budget.svg"
    outcome = invoke("model", "budget", "--plot", str(picture))
    assert outcome.err == f"kvmtools: drew {picture}\n"
    assert "RAM" in outcome.out
    written = words(picture)
    for word in ("512 MiB", "1 GiB", "64 GiB", "lowmem left (MiB)", "FLATMEM", "SPARSEMEM"):
        assert word in written, word
    assert "virtual, 4 KiB leaves in highmem" in written
    assert any(word.startswith("virtual, 4 KiB leaves in lowmem; no boot above 53.") for word in written)
    assert any("kernel 6.1, PAE, PAGE_OFFSET c0000000, struct page of 32 bytes" in word for word in written)
    assert list(tmp_path.iterdir()) == [picture]


def test_a_picture_is_the_same_every_time(invoke: Invoke, tmp_path: Path) -> None:
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    for picture in (first, second):
        invoke("model", "budget", "--plot", str(picture))
    assert first.read_bytes() == second.read_bytes()
    assert b"dc:date" not in first.read_bytes()


def test_png(invoke: Invoke, tmp_path: Path) -> None:
    picture = tmp_path / "budget.PNG"
    invoke("model", "budget", "--no-pae", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_curves_of_2_4(invoke: Invoke, tmp_path: Path) -> None:
    """No SPARSEMEM, and struct pages of 64 bytes."""
    picture = tmp_path / "budget.svg"
    invoke("model", "budget", "--era", "2.4", "--plot", str(picture))
    written = words(picture)
    assert not any("SPARSEMEM" in word for word in written)
    assert any(word.startswith("FLATMEM; no boot above 54.7") for word in written)


def test_curves_of_what_never_boots(invoke: Invoke, tmp_path: Path) -> None:
    picture = tmp_path / "budget.svg"
    assert invoke("model", "budget", "--sizeof-page", "4096", "--plot", str(picture)).code == 0
    assert "FLATMEM; never boots" in words(picture)


@pytest.mark.parametrize("name", ["budget.pdf", "budget"])
def test_another_format_is_refused(invoke: Invoke, tmp_path: Path, name: str) -> None:
    outcome = invoke("model", "budget", "--plot", str(tmp_path / name))
    assert outcome.code == 2
    assert "end its name in .svg or .png" in str(outcome.error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--e820", "0-1G"), ("--memory", "4G")])
def test_one_machine_has_no_curves(invoke: Invoke, tmp_path: Path, words: tuple[str, str]) -> None:
    outcome = invoke("model", "budget", *words, "--plot", str(tmp_path / "budget.svg"))
    assert outcome.code == 2
    assert "--memory and --e820 describe one machine" in str(outcome.error)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = invoke("model", "budget", "--plot", str(tmp_path / "budget.svg"))
    assert outcome.code == 2
    assert str(outcome.error) == "--plot needs matplotlib (pip install 'kvmtools[plot]')"
    assert outcome.out == ""
    assert invoke("model", "budget").code == 0


def test_where_nothing_can_be_written(invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("model", "budget", "--plot", str(tmp_path / "nowhere" / "budget.svg"))
    assert outcome.code == 3
    assert str(outcome.error).startswith(
        f"cannot write {tmp_path}/nowhere/budget.svg: No such file or directory"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_picture_needs_a_name(invoke: Invoke) -> None:
    outcome = invoke("model", "budget", "--plot", "")
    assert (outcome.code, str(outcome.error)) == (2, "--plot names no file (end its name in .svg or .png)")

"""``model walk``: tables from files and tables of kernels, addresses and accesses, text and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmtools.cli.model import walk_list

Invoke = Callable[..., Any]
VECTORS = Path(__file__).resolve().parents[3] / "fixtures" / "paging"


def vector(name: str) -> str:
    return str(VECTORS / f"{name}.txt")


def data(invoke: Invoke, *words: str, code: int = 0) -> dict[str, Any]:
    outcome = invoke("model", "walk", *words, "--format", "json")
    assert outcome.code == code
    document: dict[str, Any] = json.loads(outcome.out)
    assert document["schema"] == "kvmtools/1"
    assert document["command"] == "model walk"
    return document


def test_an_address_of_a_file(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", vector("pae-4k-nx"), "0xc0001abc")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1:] == [
        "",
        "c0001abc",
        "  pgd  table 000001000 [   3]  0000000000002001  P",
        "  pmd  table 000002000 [   0]  0000000000003063  P RW A",
        "  pte  table 000003000 [   1]  8000000000007163  P RW A D G NX",
        "  physical 0x7abc  4 KiB page  rw- kernel  WB",
    ]


def test_an_address_that_stops(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", vector("non-pae-4k"), "c0003000", "c0001000")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert "  pte  table 000002000 [   3]  00000000  not present" in lines
    assert "  not mapped: pte[3] at 0x2000: not present" in lines
    assert "  physical 0x7000  4 KiB page  rwx kernel  WB" in lines


def test_addresses_are_as_wide_as_the_form_has_them(invoke: Invoke) -> None:
    outcome = invoke(
        "model", "walk", vector("4-level-canonical"), "0x123", "0xffff800000000000", "0000800000000000"
    )
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert {"0000000000000123", "ffff800000000000", "0000800000000000"} <= set(lines)
    assert lines[-1] == "  not mapped: pgd[0] at 0x1000: there is no such address in this form"


def test_json_of_an_address(invoke: Invoke) -> None:
    document = data(invoke, vector("pae-2m"), "0x00212345", "40000000", code=1)
    assert document["page_table"]["form"] == "PAE"
    assert document["page_table"]["cr3"] == "0x1000"
    assert document["page_table"]["chosen"] == []
    assert document["access"] is None
    mapped, stopped = document["translations"]
    assert mapped == {
        "argument": "0x00212345",
        "virtual": "0x212345",
        "region": None,
        "steps": [
            {"level": "pgd", "table": "0x000001000", "index": 0, "entry": "0x0000000000002001", "flags": "P"},
            {
                "level": "pmd",
                "table": "0x000002000",
                "index": 1,
                "entry": "0x80000001004010e3",
                "flags": "P RW A D PSE PAT NX",
            },
        ],
        "mapped": True,
        "fault": None,
        "physical": "0x100412345",
        "page_size_bytes": 2 << 20,
        "writable": True,
        "user": False,
        "executable": False,
        "memory_type": "WB",
        "marked": [],
    }
    assert stopped["fault"] == {
        "level": "pgd",
        "table": "0x000001000",
        "index": 1,
        "entry": "0x0000000000000000",
        "reason": "not present",
        "exception": None,
        "error_code": None,
    }
    assert stopped["mapped"] is False
    assert stopped["physical"] is stopped["page_size_bytes"] is stopped["memory_type"] is None


# What a processor does


def test_an_access_marks_and_says_so(invoke: Invoke) -> None:
    words = (vector("4-level-accesses"), "0xffff800000000010", "0xffff800000000020", "--access")
    first, second = data(invoke, *words, "write")["translations"]
    assert [(mark["level"], mark["index"], mark["entry"]) for mark in first["marked"]] == [
        ("pgd", 256, "0x0000000000002023"),
        ("pud", 0, "0x0000000000003023"),
        ("pmd", 0, "0x0000000000004023"),
        ("pte", 0, "0x0000000000005063"),
    ]
    assert second["marked"] == []
    assert second["steps"][3]["entry"] == "0x0000000000005063"
    lines = invoke("model", "walk", *words, "read").out.splitlines()
    assert "  marked: pte[0] = 0000000000005023" in lines
    assert "  physical 0x5010  4 KiB page  rwx kernel  WB" in lines
    large = invoke("model", "walk", vector("4-level-accesses"), "0xffff800040000000", "--access", "fetch")
    assert "  physical 0x40000000  1 GiB page  rwx kernel  WC  global" in large.out.splitlines()


@pytest.mark.parametrize(
    ("name", "address", "access", "line"),
    [
        ("non-pae-accesses", "0x1000", "write,user", "#PF(0x7): pte[1] at 0x2000: it is read-only"),
        ("non-pae-accesses", "0x1000", "write", "#PF(0x3): pte[1] at 0x2000: it is read-only"),
        ("non-pae-accesses", "0x3000", "user", "#PF(0x4): pte[3] at 0x2000: not present"),
        ("pae-accesses", "0xc0000000", "fetch", "#PF(0x11): pte[0] at 0x3000: it is not executable"),
        ("pae-smep-smap", "0", "fetch,smep", "#PF(0x11): pte[0] at 0x3000: SMEP: "),
        ("pae-rights", "0x200000", "smap,read", "#PF(0x1): pte[0] at 0x3000: SMAP: "),
        ("non-pae-accesses", "0x1000", "smap,ac,write", "#PF(0x3): pte[1] at 0x2000: it is read-only"),
        (
            "pae-pdpte-reserved",
            "0",
            "read",
            "#GP(0x0): pgd[1] at 0x1000: CR3 is not loaded: reserved bits 0x2 are set",
        ),
        (
            "4-level-canonical",
            "0x800000000000",
            "read",
            "#GP(0x0): pgd[0] at 0x1000: there is no such address",
        ),
        (
            "pae-mmio-and-no-ram",
            "0xffc00000",
            "read",
            "not mapped: pte[0] at 0xfee00000: the table is not in RAM",
        ),
    ],
)
def test_an_access_that_faults(invoke: Invoke, name: str, address: str, access: str, line: str) -> None:
    outcome = invoke("model", "walk", vector(name), address, "--access", access)
    assert outcome.code == 1
    assert any(said.startswith(f"  {line}") for said in outcome.out.splitlines())
    (answer,) = data(invoke, vector(name), address, "--access", access, code=1)["translations"]
    exception, _, rest = line.partition("(")
    assert answer["fault"]["exception"] == ("" if exception.startswith("not") else exception)
    assert answer["fault"]["error_code"] == (
        0 if exception.startswith("not") else int(rest.split(")")[0], 16)
    )


@pytest.mark.parametrize("access", ["smap,ac,no-wp,write", "user", "fetch", "smep,write"])
def test_an_access_that_passes(invoke: Invoke, access: str) -> None:
    address = "0x2000" if "no-wp" in access else "0x0"
    document = data(invoke, vector("pae-smep-smap"), address, "--access", access)
    assert document["access"] == access


# Everything


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
        ("0xc0800000", "kernel image"),
        ("0xc1000000", "direct map"),
        ("0xdffe0000", "rest of the last large page"),
    ]
    assert [run["physical"] for run in runs] == ["0x000000000", "0x000800000", "0x001000000", "0x01ffe0000"]
    assert [run["size_bytes"] for run in runs] == [8 << 20, 8 << 20, (496 << 20) - 0x20000, 0x20000]
    assert {run["page_size_bytes"] for run in runs} == {4 << 20}


def test_one_leaf(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "tables"
    path.write_text("form non-pae\ncr3 0x1000\n0x1000[0] = 0xe7\n")
    assert invoke("model", "walk", str(path)).out.splitlines()[-1] == "1 leaf, 1 of them large"


def test_the_control_line_of_a_file_counts(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "tables"
    tables = "form non-pae\ncr3 0x1000\n0x1000[0] = 0x81\n"
    for control, access, code in (
        ("", "write", 1),
        ("control wp=off", "write", 0),
        ("control wp=on", "write,no-wp", 0),
        ("control wp=off", "write,user", 1),
        ("control smap=on wp=off", "write,no-wp", 0),
    ):
        path.write_text(f"{tables}{control}\n")
        assert invoke("model", "walk", str(path), "0x0", "--access", access).code == code
    # All eight types of the PAT made UC, whether something is done or not.
    path.write_text(f"{tables}control pat=0x0\n")
    for words in ((), ("--access", "read")):
        assert data(invoke, str(path), "0x0", *words)["translations"][0]["memory_type"] == "UC"


@pytest.mark.parametrize("words", [(), ("--access", "write")])
def test_a_root_that_is_not_ram(invoke: Invoke, tmp_path: Path, words: tuple[str, ...]) -> None:
    path = tmp_path / "tables"
    path.write_text("form pae\ncr3 0x1000\n")
    outcome = invoke("model", "walk", str(path), "0x0", *words)
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1] == "  not mapped: pgd[0] at 0x1000: the table is not in RAM"


def test_the_help_tells_every_line_of_a_file(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("model", "walk", "--help").out
    assert "README" not in shown
    path = tmp_path / "tables"
    lines = (
        "form pae nx=off maxphyaddr=36",
        "cr3 0x1000",
        "0x1000[3] = 0x2001",
        "0x2000[0..511]=0x0",
        "control wp=off",
    )
    lines += (
        "0x0 -> 0x7000 4K w-x",
        "0x5000 stops at pte[5]: not present",
        "leaves 2",
        "then 0x2000[0] = 0x7063",
    )
    lines += ("user write 0x10 meets 0x7010 WB global", "user read 0x10 raises #PF 0x5 at pte[0]")
    for line in lines:
        assert line in shown
    path.write_text("\n".join(lines))
    assert invoke("model", "walk", str(path), "0xc0000000").code == 1


# Kernels


def test_the_tables_of_a_kernel(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", "--memory", "512M", "0xc0001234", "d0000000", "0x1000")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert lines[0].startswith("6.1, PAE, cr3 0x")
    assert sum(line.startswith("  chosen: ") for line in lines) == 5
    assert "  chosen: one possible CPU: the CPU entry areas of the others are empty" in lines
    assert "c0001234  low memory" in lines
    assert "  physical 0x1234  4 KiB page  rw- kernel  WB" in lines
    assert "d0000000  direct map" in lines
    assert "  physical 0x10000000  2 MiB page  rw- kernel  WB" in lines
    assert "00001000  user space" in lines


def test_a_kernel_as_data(invoke: Invoke) -> None:
    document = data(invoke, "--era", "2.4", "--no-pae", "fe000000", "0", code=1)
    assert document["page_table"]["name"] == "2.4, non-PAE"
    assert len(document["page_table"]["chosen"]) == 4
    pkmap, user = document["translations"]
    # Gorman 10.1: PKMAP_BASE is 0xFE000000, and its page table is there from boot on.
    assert (pkmap["region"], pkmap["fault"]["level"]) == ("pkmap", "pte")
    assert (user["region"], user["fault"]["level"]) == ("user space", "pgd")


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


# What makes no sense


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-file",), "'no-such-file' is neither an address nor a file that can be read: No such file"),
        ((str(VECTORS),), "neither an address nor a file that can be read: Is a directory"),
        (("0xc0000000", "0xzz"), "'0xzz' is not an address"),
        ((vector("pae-2m"), "12"), "'12' is not an address"),
        (("",), "'' is not an address"),
        (
            ("cafe",),
            "'cafe' is neither an address nor a file that can be read: No such file or directory (an address",
        ),
        (("--no-pae", "0x100000000"), "0x100000000: with non-PAE paging addresses end at 0x100000000"),
        ((vector("pae-2m"), "0x100000000"), "0x100000000: with PAE paging addresses end at 0x100000000"),
        ((vector("pae-2m"), "0x12345678123456789"), "is not an address"),
        ((vector("pae-2m"), "--memory", "1G"), "--memory describes a machine"),
        ((vector("pae-2m"), "--no-pae"), "--pae describes a machine"),
        (
            (vector("pae-2m"), "0", "--access", "jump"),
            "--access: 'jump' is not one of read, write, fetch, user, smep",
        ),
        (
            (vector("pae-2m"), "0", "--access", "read,write"),
            "--access: it is one of read and write, not both",
        ),
        ((vector("pae-2m"), "0", "--access", ""), "--access: '' is not one of"),
    ],
)
def test_usage(invoke: Invoke, words: tuple[str, ...], said: str) -> None:
    outcome = invoke("model", "walk", *words)
    assert outcome.code == 2
    assert said in str(outcome.error)


def test_a_file_that_is_no_text_or_no_tables(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "tables"
    path.write_bytes(b"\xff\xfe")
    assert "is not a text file" in str(invoke("model", "walk", str(path)).error)
    path.write_text("form pae\ncr3 0x1000\nhello\n")
    outcome = invoke("model", "walk", str(path))
    assert outcome.code == 2
    assert f"{path}:3: no such line: 'hello'" in str(outcome.error)


def test_an_access_needs_an_address(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", vector("pae-2m"), "--access", "read")
    assert outcome.code == 2
    assert "--access needs an address" in str(outcome.error)

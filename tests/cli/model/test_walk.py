"""``model walk`` of addresses: tables from files and tables of kernels, text and JSON; and what makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from walks import VECTORS, Invoke, data, vector


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
    assert document["page_table"]["cr3"] == "0x000001000"  # as wide as the tables that it is compared with
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


def test_the_tables_of_a_kernel(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", "--memory", "512M", "0xc0001234", "d0000000", "0x1000")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert lines[0].startswith("6.1, PAE, cr3 0x")
    assert sum(line.startswith("  chosen: ") for line in lines) == 6
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
        "0x0 -> 0x7000 4K w-x",
        "0x5000 stops at pte[5]: not present",
        "leaves 2",
        "then 0x2000[0] = 0x7063",
        "user write 0x10 meets 0x7010 WB global",
        "user read 0x10 raises #PF 0x5 at pte[0]",
    )
    for line in lines:
        assert line in shown
    path.write_text("\n".join(lines))
    assert invoke("model", "walk", str(path), "0xc0000000").code == 1


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
    assert f"{path} is not text" in str(invoke("model", "walk", str(path)).error)
    path.write_text("form pae\ncr3 0x1000\nhello\n")
    outcome = invoke("model", "walk", str(path))
    assert outcome.code == 2
    assert f"{path}:3: no such line: 'hello'" in str(outcome.error)


def test_tables_on_stdin(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", "-", "0xc0001abc", stdin=Path(vector("pae-4k-nx")).read_text())
    assert outcome.code == 0
    assert outcome.out.startswith("stdin, PAE, cr3 0x1000\n")
    assert "  physical 0x7abc  4 KiB page" in outcome.out
    assert "stdin:1: " in str(invoke("model", "walk", "-", stdin="hello").error)


def test_a_file_with_an_odd_name(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "\x1b[1m"
    path.write_text("form pae\ncr3 0x1000\n0x1000[0] = 0x0\n")
    assert invoke("model", "walk", str(path)).out.startswith(f"{tmp_path}/\\x1b[1m, PAE")

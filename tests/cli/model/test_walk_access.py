"""``model walk --access``: what a processor would mark, which accesses fault and which pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from walks import Invoke, data, vector


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


def test_an_access_needs_an_address(invoke: Invoke) -> None:
    outcome = invoke("model", "walk", vector("pae-2m"), "--access", "read")
    assert outcome.code == 2
    assert "--access needs an address" in str(outcome.error)

"""``vtop`` on a tiny guest: mapped, unmapped, MMIO, many at once, garbage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kvmtools.attach.monitor.pause import NoPause

Invoke = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("tiny")


def test_every_level_and_the_page(invoke: Invoke) -> None:
    outcome = invoke("vtop", "c0001140")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "c0001140  direct map  [swapper_pg_dir]"
    assert lines[1] == "  pgd  table 000001000 [   3]  0000000000002001  P"
    assert lines[2] == "  pmd  table 000002000 [   0]  0000000000003063  P RW A"
    assert lines[3] == "  pte  table 000003000 [   1]  8000000000001163  P RW A D G NX"
    assert lines[4] == "  physical 0x1140  4 KiB page  rw- kernel"
    assert "struct page 0xc0500020" in lines[5]


def test_a_symbol_in_a_large_page(invoke: Invoke) -> None:
    outcome = invoke("vtop", "--format", "json", "linux_banner+0x10")
    document = json.loads(outcome.out)
    (way,) = document["translations"]
    assert document["schema"] == "kvmtools/1"
    assert document["page_table"] == {"name": "swapper_pg_dir", "cr3": "0x1000"}
    assert way["virtual"] == "0xc0200150"
    assert way["physical"] == "0x000200150"
    assert way["page_size_bytes"] == 2 << 20
    assert (way["writable"], way["user"], way["executable"]) == (False, False, True)
    assert [step["level"] for step in way["steps"]] == ["pgd", "pmd"]
    assert way["steps"][-1]["entry"] == "0x00000000002001e1"
    assert way["page"]["pfn"] == 0x200
    assert way["page"]["page"] == "0xc0504000"


def test_an_unmapped_address_is_an_answer_with_exit_code_1(invoke: Invoke) -> None:
    outcome = invoke("vtop", "c0001000", "c0003000", "b0000000")
    assert outcome.code == 1
    assert "not mapped: not present in the pte" in outcome.out
    assert "not mapped: not present in the pgd" in outcome.out
    assert outcome.out.count("not mapped") == 2
    assert outcome.err == ""


def test_a_device_has_no_struct_page(invoke: Invoke) -> None:
    outcome = invoke("vtop", "ffffe000")
    assert outcome.code == 0
    assert "fixmap slot FIX_APIC_BASE" in outcome.out
    assert "no struct page" in outcome.out
    assert json.loads(invoke("vtop", "--format=json", "ffffe000").out)["translations"][0]["page"] is None


def test_addresses_from_stdin(invoke: Invoke) -> None:
    outcome = invoke("vtop", "--format", "json", stdin="0xc0001000 0xc0002000\nlinux_banner\n")
    ways = json.loads(outcome.out)["translations"]
    assert [way["virtual"] for way in ways] == ["0xc0001000", "0xc0002000", "0xc0200140"]
    assert invoke("vtop", "-", "c0001000", stdin="linux_banner").out.count("physical 0x") == 4


def test_nothing_on_stdin_is_nothing_to_do(invoke: Invoke) -> None:
    outcome = invoke("vtop", stdin="")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


@pytest.mark.parametrize("garbage", ["zork", "0x123456789", "c00", "+"])
def test_garbage_is_a_usage_error_that_names_it(invoke: Invoke, garbage: str) -> None:
    outcome = invoke("vtop", "c0001000", garbage)
    assert outcome.code == 2
    assert f"'{garbage}'" in str(outcome.error)
    assert outcome.out == ""


def test_other_page_tables(invoke: Invoke, tiny: Any) -> None:
    assert "[at 0x1000]" in invoke("vtop", "--cr3", "0x1000", "c0001000").out
    assert "[vCPU 0]" in invoke("vtop", "--cpu", "0", "c0001000").out
    empty = invoke("vtop", "--cpu", "1", "c0001000")
    assert empty.code == 1
    assert "table 000005000" in empty.out
    assert invoke("vtop", "--cr3", "0xfff00000000", "c0001000").code == 2
    assert invoke("vtop", "--cr3", "0xfff00000", "c0001000").code == 1


def test_page_tables_that_do_not_exist(invoke: Invoke) -> None:
    assert "no vCPU 7" in str(invoke("vtop", "--cpu", "7", "c0001000").error)
    assert invoke("vtop", "--cpu", "0", "--cr3", "0x1000", "c0001000").code == 2
    assert invoke("vtop", "--cr3", "swapper", "c0001000").code == 2


def test_one_bad_line_of_many(invoke: Invoke) -> None:
    outcome = invoke("vtop", stdin="c0001000\n# a comment\n\nzork\nlinux_banner\n")
    assert outcome.code == 2
    assert outcome.out.count("physical 0x") == 4
    assert outcome.err.count("'zork'") == len(outcome.err.splitlines()) == 1


def test_many_lines_are_few_pauses(invoke: Invoke, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    paused = type(tiny).paused
    monkeypatch.setattr(type(tiny), "paused", lambda self: pauses.append(1) or paused(self))
    assert invoke("vtop", stdin="c0001000\n" * 2500).out.count("[swapper_pg_dir]") == 2500
    assert 2 <= len(pauses) <= 10


def test_an_argument_is_echoed_if_it_is_a_symbol(invoke: Invoke) -> None:
    lines = invoke("vtop", "linux_banner+0x10", "c0001000").out.splitlines()
    assert lines[0] == "c0200150  linux_banner+0x10  direct map  [swapper_pg_dir]"
    assert "c0001000  direct map  [swapper_pg_dir]" in lines
    ways = json.loads(invoke("vtop", "--format", "json", "linux_banner+0x10").out)["translations"]
    assert ways[0]["argument"] == "linux_banner+0x10"


def test_user_addresses_hint_at_pid(invoke: Invoke) -> None:
    zero = invoke("vtop", "0")
    assert zero.code == 1
    assert zero.out.startswith("00000000  user")
    assert "--pid" in zero.out
    assert "--pid" not in invoke("vtop", "--cpu", "0", "0").out
    assert "--pid" not in invoke("vtop", "c0003000").out


def test_reading_a_running_guest_is_said(invoke: Invoke, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("vtop", "walk"):
        words = (command, "c0001000") if command == "vtop" else (command,)
        assert "consistency" not in json.loads(invoke(*words, "--format", "json").out)
    monkeypatch.setattr(type(tiny), "paused", lambda _self: NoPause(was_running=True))
    for command in ("vtop", "walk"):
        words = (command, "c0001000") if command == "vtop" else (command,)
        assert "while the guest ran" in json.loads(invoke(*words, "--format", "json").out)["consistency"]
        assert "while the guest ran" in invoke(*words).err


def test_what_this_processor_refuses(invoke: Invoke, tiny: Any) -> None:
    """NX is a reserved bit without EFER.NXE; each vCPU reads the tables by its own."""
    first, second = tiny.cpus
    tiny.cpus = (first, replace(second, cr3=first.cr3, efer=0))
    assert invoke("vtop", "c0001140").code == 0
    outcome = invoke("vtop", "--cpu", "1", "c0001140")
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1] == (
        "  not mapped: reserved bits 0x8000000000000000 are set in the pte"
    )

"""Every command on the recorded guests: what it prints is what the observers found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import recorded_guest
from opened_kernel import always_opens

from kvmtools.api.session import Session
from kvmtools.attach.monitor.pause import NoPause
from kvmtools.compare.flag_fields import with_fields
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import Observed
from kvmtools.observe.pages.memmap import page_at, page_pfn
from kvmtools.records import Registers

COMMANDS = ("vtop", "walk", "memmap", "pkmap", "layout", "zones", "regs")
Invoke = Callable[..., Any]


@dataclass(frozen=True)
class Recorded:
    kernel: Kernel
    observed: Observed
    registers: tuple[Registers, ...]


@cache
def load(name: str) -> Recorded:
    guest = recorded_guest.load(name)
    return Recorded(guest.kernel, guest.observe(), guest.registers)


@pytest.fixture(params=["pae", "nopae"])
def recorded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    guest = load(request.param)
    target = SimpleNamespace(
        monitor=None,
        registers=lambda: guest.registers,
        paused=lambda: NoPause(was_running=False),
        close=lambda: None,
    )
    session = Session(target, guest.kernel)  # type: ignore[arg-type]

    always_opens(monkeypatch, session)
    monkeypatch.setattr(Session, "observe", lambda _self, processes: guest.observed)
    return guest


def document(invoke: Invoke, *words: str) -> Any:
    return json.loads(invoke(*words, "--format", "json").out)


@pytest.mark.parametrize("command", COMMANDS)
def test_text_and_json_twice_the_same(recorded: Recorded, invoke: Invoke, command: str) -> None:
    words = (command, "linux_banner") if command == "vtop" else (command,)
    assert invoke(*words).out
    assert invoke(*words).out == invoke(*words).out
    shown = document(invoke, *words)
    assert shown["schema"] == "kvmtools/1"
    assert list(shown)[:2] == ["schema", "command"]


def test_walk(recorded: Recorded, invoke: Invoke) -> None:
    entries = document(invoke, "walk", "--raw")["entries"]
    found = recorded.observed.walk
    assert [int(entry["virtual"], 16) for entry in entries] == found.virtual.tolist()
    assert [int(entry["entry"], 16) for entry in entries] == found.entry.tolist()
    runs = document(invoke, "walk")["runs"]
    assert sum(run["pages"] for run in runs) == len(found)
    assert sum(run["size_bytes"] for run in runs) == int(found.size.sum())


def test_vtop_of_every_slot_in_use(recorded: Recorded, invoke: Invoke) -> None:
    used = document(invoke, "pkmap")["pkmap"]["used"]
    assert len(used) > 200
    ways = document(invoke, "vtop", *(row["virtual"] for row in used))["translations"]
    assert [way["region"] for way in ways] == [f"pkmap slot {row['slot']}" for row in used]
    assert [way["page"]["pfn"] for way in ways] == [row["pfn"] for row in used]
    assert [int(way["steps"][-1]["entry"], 16) for way in ways] == [int(row["pte"], 16) for row in used]
    local = document(invoke, "pkmap")["kmap_local"]
    assert [(slot["cpu"], slot["index"]) for slot in local] == [(1, 0), (1, 1), (1, 2)]
    described = document(invoke, "vtop", *(slot["virtual"] for slot in local))["translations"]
    assert [way["region"] for way in described] == [
        f"fixmap slot FIX_KMAP of CPU 1, index {index}" for index in range(3)
    ]


def test_one_page_alone_is_the_page_among_all(recorded: Recorded) -> None:
    memmap = with_fields(recorded.observed.memmap, recorded.observed.configuration)
    for pfn in (*range(0, memmap.length, 97), memmap.length - 1):
        page = memmap.page(pfn)
        assert page_at(recorded.kernel, pfn, memmap.layout) == page
        assert page_pfn(recorded.kernel, page["page"]) == pfn
        assert page["zone"] == memmap.zone_names[memmap.zone[pfn]]
        assert page["compound_head"] == (memmap.head[pfn] if memmap.tail[pfn] else None)
        assert page["buddy_order"] == (memmap.buddy_order[pfn] if memmap.buddy[pfn] else None)
    with pytest.raises(IndexError):
        page_at(recorded.kernel, memmap.length)
    with pytest.raises(IndexError):
        page_pfn(recorded.kernel, memmap.base + 1)


def test_memmap_counts_agree_with_zones(recorded: Recorded, invoke: Invoke) -> None:
    summary = document(invoke, "memmap")
    zones = {zone["zone"]: zone for zone in document(invoke, "zones")["zones"]}
    assert (
        sum(zone["page_count"] for zone in summary["zones"])
        == summary["page_count"]
        == recorded.observed.memmap.length
    )
    for zone in summary["zones"]:
        assert zone["states"]["free"] == zones[zone["zone"]]["free_pages"]
        assert zone["states"]["per-cpu"] <= sum(
            each["listed_pages"] for each in zones[zone["zone"]]["per_cpu"]
        )


def test_layout_has_no_disagreement(recorded: Recorded, invoke: Invoke) -> None:
    shown = document(invoke, "layout")
    assert {edge["agrees"] for edge in (*shown["boundaries"], *shown["limits"])} <= {True, None}
    assert "≠" not in invoke("layout").out


def test_registers_lead_to_known_tables(recorded: Recorded, invoke: Invoke) -> None:
    cpus = document(invoke, "regs")["vcpus"]
    assert [cpu["cpu"] for cpu in cpus] == [0, 1]
    assert all(cpu["page_table"] != "unknown" for cpu in cpus)
    # The second one was inside our driver, which held kmap_local slots.
    assert cpus[0]["region"] == "kernel text"
    assert cpus[1]["region"] in ("vmalloc", "module kvmtools")

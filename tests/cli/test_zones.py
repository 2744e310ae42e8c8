"""``zones``: spans, free blocks as listed and as counted, pagesets."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kvmtools.api.session import Session
from kvmtools.model.machine import configuration
from kvmtools.observe.zones.free_lists import FreeArea, FreeList
from kvmtools.observe.zones.per_cpu_pages import PcpList, PerCpuPages
from kvmtools.observe.zones.zones import Place, Zone

Invoke = Callable[..., Any]


def free_list(order: int, migratetype: str, blocks: int, broken: str | None = None) -> FreeList:
    return FreeList(order, migratetype, np.arange(blocks, dtype=np.int64) << order, broken)


def zone(
    name: str, index: int, start: int, pages: int, *areas: FreeArea, pcp: int = 0, place: Place | None = None
) -> Zone:
    lists = (PcpList(np.arange(pcp, dtype=np.int64), None),)
    return Zone(
        place=place or Place(0, index, name, 1),
        address=0xC140_0000 + index * 0x400,
        start_pfn=start,
        spanned=pages,
        present=pages,
        managed=pages - pages // 10,
        watermarks={"min": 16, "low": 20, "high": 24},
        watermark_boost=0,
        lowmem_reserve=(0, 0),
        vm_stat={"NR_FREE_PAGES": 40},
        vm_stat_diff={0: {"NR_FREE_PAGES": 2}},
        free_area=areas,
        pcp=(PerCpuPages(0, pcp, 100, 10, False, lists),) if pages else (),
        locked=False,
    )


@pytest.fixture
def zones(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Zone, ...]:
    found = (
        zone(
            "NORMAL",
            0,
            1,
            1000,
            FreeArea(0, 2, (free_list(0, "UNMOVABLE", 0), free_list(0, "MOVABLE", 2))),
            FreeArea(1, 4, (free_list(1, "UNMOVABLE", 0), free_list(1, "MOVABLE", 3, "does not come back"))),
            pcp=5,
        ),
        zone("HIGHMEM", 1, 0, 0, FreeArea(0, 0, ()), FreeArea(1, 0, ())),
    )
    observed = SimpleNamespace(zones=found, configuration=configuration())
    monkeypatch.setattr(Session, "observe", lambda _self, processes: observed)
    return found


@pytest.mark.usefixtures("zones")
def test_in_text(invoke: Invoke) -> None:
    spans, blocks, per_cpu = invoke("zones").out.split("\n\n")
    assert spans.splitlines()[0].split() == [
        "zone", "pfns", "spanned", "present", "managed", "free", "free", "min", "low", "high",
    ]  # fmt: skip
    assert spans.splitlines()[1].split()[:6] == ["NORMAL", "0x1-0x3e9", "1000", "1000", "900", "42"]
    assert spans.splitlines()[2].split()[:2] == ["HIGHMEM", "empty"]
    assert [line.split() for line in blocks.splitlines()[1:]] == [
        ["NORMAL", "movable", "2", "3"],
        ["NORMAL", "all", "2", "3", "(4)"],
    ]
    assert per_cpu.splitlines()[1].split() == ["NORMAL", "0", "5", "5", "100", "10"]


@pytest.mark.usefixtures("zones")
def test_as_json(invoke: Invoke) -> None:
    document = json.loads(invoke("zones", "--format", "json").out)
    first = document["zones"][0]
    assert (first["zone"], first["start_pfn"], first["end_pfn"]) == ("NORMAL", 1, 1001)
    assert first["free_pages"] == 42
    assert first["free_area"][1] == {
        "order": 1,
        "nr_free": 4,
        "blocks": {"UNMOVABLE": 0, "MOVABLE": 3},
        "broken": ["does not come back"],
    }
    assert first["per_cpu"][0]["listed_pages"] == 5
    assert document["zones"][1]["per_cpu"] == []


def test_of_several_nodes_each_is_named(invoke: Invoke, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuple(
        zone(
            "NORMAL", 0, node * 1000, 1000, FreeArea(0, 1, (free_list(0, "MOVABLE", 1),)), pcp=1,
            place=Place(node, 0, "NORMAL", 2),
        )
        for node in (0, 1)
    )  # fmt: skip
    monkeypatch.setattr(
        Session,
        "observe",
        lambda _self, processes: SimpleNamespace(zones=found, configuration=configuration()),
    )
    for part in invoke("zones").out.split("\n\n"):
        words = [line.split()[:3] for line in part.splitlines()[1:]]
        assert {tuple(each) for each in words} == {("node", "0", "NORMAL"), ("node", "1", "NORMAL")}
    document = json.loads(invoke("zones", "--format", "json").out)
    assert [(each["node"], each["zone"]) for each in document["zones"]] == [(0, "NORMAL"), (1, "NORMAL")]

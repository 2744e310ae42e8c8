"""``pkmap``: the picture, the table, and kernels without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kvmtools.api.session import Session
from kvmtools.model.machine import configuration
from kvmtools.observe.paging.forms import PAE
from kvmtools.records import Range

Invoke = Callable[..., Any]
SLOTS = 512


@pytest.fixture
def pkmap() -> Any:
    """Slot 1 has two users, slot 2 none, slot 511 fifteen; the cursor is at 2."""
    counts, ptes = np.zeros(SLOTS, np.int32), np.zeros(SLOTS, np.uint64)
    for slot, count in ((1, 3), (2, 1), (511, 16)):
        counts[slot], ptes[slot] = count, 1 << 63 | (0x1000 + slot) << 12 | 0x163
    bucket = SimpleNamespace(entries=(None, None, None))
    return SimpleNamespace(
        base=0xFF60_0000,
        counts=counts,
        ptes=ptes,
        cursor=2,
        page_table_physical=0x7000,
        waiters=False,
        buckets=(bucket,),
    )


@pytest.fixture
def observed(tiny: Any, pkmap: Any, a_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    local = SimpleNamespace(ptes=np.array([0] * 16 + [0x123_4163, 0], np.uint64))
    told = replace(configuration("6.1", nr_cpus=4), kmap_fixed_addresses=Range(0x4F, 0x8F))

    def pfn_to_page(pfn: int) -> int:
        if pfn >= 0x1100:
            raise IndexError(f"pfn {pfn:#x} has no struct page")
        return int(a_page(pfn).page)

    found = SimpleNamespace(
        kernel=SimpleNamespace(paging=PAE),
        configuration=told,
        pkmap=pkmap,
        memmap=SimpleNamespace(pfn_to_page=pfn_to_page, zone_name=lambda _pfn: "HIGHMEM"),
        kmap_local=local,
    )
    monkeypatch.setattr(Session, "observe", lambda _self, processes: found)
    monkeypatch.setattr("kvmtools.api.pkmap.with_fields", lambda memmap, _configuration: memmap)
    return found


@pytest.mark.usefixtures("observed")
def test_the_picture_and_the_table(invoke: Invoke) -> None:
    lines = invoke("pkmap").out.splitlines()
    assert lines[0] == "pkmap at ff600000: 512 slots, 509 free, 1 unused, 2 in use; cursor 2"
    assert lines[1] == "   0  ff600000  .2o" + "." * 61
    assert lines[2].index("^") == lines[1].index("o")
    assert lines[9].endswith("+")
    assert [line.split()[:4] for line in lines[13:16]] == [
        ["1", "0xff601000", "3", "2"],
        ["2", "0xff602000", "1", "0"],
        ["511", "0xff7ff000", "16", "15"],
    ]
    assert lines[13].endswith("HIGHMEM")
    assert lines[15].endswith("-")  # beyond mem_map
    assert "0x0000000001234163" in lines[-1]


@pytest.mark.usefixtures("observed")
def test_as_json(invoke: Invoke) -> None:
    document = json.loads(invoke("pkmap", "--format", "json").out)
    assert document["pkmap"]["slots"] == SLOTS
    assert document["pkmap"]["cursor"] == 2
    assert document["pkmap"]["hash_entries"] == 3
    assert [row["slot"] for row in document["pkmap"]["used"]] == [1, 2, 511]
    assert document["pkmap"]["used"][0]["page"] == f"{0xC050_0000 + 0x1001 * 32:#x}"
    assert document["kmap_local"] == [
        {"cpu": 1, "index": 0, "virtual": "0xfffa0000", "pte": "0x0000000001234163", "pfn": 0x1234}
    ]


def test_a_slot_whose_place_the_model_cannot_tell_is_listed_all_the_same(
    invoke: Invoke, observed: Any
) -> None:
    observed.configuration = replace(observed.configuration, kmap_fixed_addresses=None)
    assert invoke("pkmap").out.splitlines()[-1].split() == ["-", "-", "-", "0x0000000001234163", str(0x1234)]
    (local,) = json.loads(invoke("pkmap", "--format", "json").out)["kmap_local"]
    assert (local["cpu"], local["index"], local["virtual"], local["pfn"]) == (None, None, None, 0x1234)


def test_a_pte_without_a_count_is_listed(invoke: Invoke, observed: Any) -> None:
    observed.pkmap.counts[1] = 0
    lines = invoke("pkmap").out.splitlines()
    assert lines[1].startswith("   0  ff600000  .!o")
    assert json.loads(invoke("pkmap", "--format=json").out)["pkmap"]["used"][0]["count"] == 0


def test_without_highmem(invoke: Invoke, observed: Any) -> None:
    observed.pkmap = None
    assert "no pkmap" in invoke("pkmap").out
    assert json.loads(invoke("pkmap", "--format", "json").out)["pkmap"] is None

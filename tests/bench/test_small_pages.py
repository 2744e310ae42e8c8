"""A kernel without large pages (`mem=nopentium`, VMSPLIT_1G) has a leaf for every page: what that costs beside others.

Nothing here asserts a time; each group has the same work on 1,536 large pages beside that on 786,432 small ones, or
with all of the leaves beside the share of them that is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from kvmtools.api.mappings import Mappings
from kvmtools.api.page_tables import PageTable
from kvmtools.boot.guests import lifecycle
from kvmtools.compare.case import AddressSpace
from kvmtools.compare.rules.walkers import PLAIN_LEAVES, plain_share
from kvmtools.model.paging import walk as model_walk
from kvmtools.observe.paging.forms import PAE
from kvmtools.observe.paging.walk import Walk, last_tables, walk
from kvmtools.observe.space.regions import Regions
from kvmtools.records import PAGE_SIZE, Layout, Range
from kvmtools.show.mappings import page_table

Run = Callable[[list[str]], None]
ROOT, SPAN, MAPPED = 0x1000, 2 << 20, 3 << 30
TABLES = MAPPED // SPAN
SMALL = MAPPED // PAGE_SIZE


class TablesInMemory:
    """PAE tables that map 3 GiB, page by page or with large pages, in 8 MiB of RAM."""

    name = "tables"

    def __init__(self, *, large: bool) -> None:
        self.ranges = (Range(0, 8 << 20),)
        self._data = bytearray(8 << 20)
        middle, last = 0x2000, 0x10000
        struct.pack_into("<4Q", self._data, ROOT, *(middle + PAGE_SIZE * n | 1 for n in range(3)), 0)
        pages = np.arange(TABLES, dtype=np.uint64)
        entries = (
            pages * np.uint64(SPAN) | np.uint64(0x1E3)
            if large
            else pages * np.uint64(PAGE_SIZE) + np.uint64(last | 0x63)
        )
        self._data[middle : middle + 8 * TABLES] = entries.tobytes()
        if not large:
            leaves = np.arange(SMALL, dtype=np.uint64) * np.uint64(PAGE_SIZE) | np.uint64(0x163)
            self._data[last : last + 8 * SMALL] = leaves.tobytes()

    def view(self, address: int, size: int) -> memoryview:
        assert address + size <= len(self._data)
        return memoryview(self._data)[address : address + size]

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.view(address, size))


@pytest.fixture(scope="module", params=["large", "small"])
def memory(request: pytest.FixtureRequest) -> TablesInMemory:
    return TablesInMemory(large=request.param == "large")


@pytest.fixture(scope="module")
def small() -> Walk:
    return walk(TablesInMemory(large=False), ROOT, PAE)  # type: ignore[arg-type]


@pytest.mark.benchmark(group="walk of 3 GiB, with large pages and without")
def test_walk(benchmark: Any, memory: TablesInMemory) -> None:
    assert len(benchmark(walk, memory, ROOT, PAE)) in (TABLES, SMALL)


@pytest.mark.benchmark(group="tables that a pause keeps, with large pages and without")
def test_what_the_pause_pays(benchmark: Any, memory: TablesInMemory) -> None:
    kept = benchmark(lambda: [memory.read(run.start, len(run)) for run in last_tables(memory, [ROOT], PAE)])  # type: ignore[arg-type]
    assert sum(map(len, kept)) in (0, TABLES * PAGE_SIZE)


@pytest.mark.benchmark(group="the plain walker on 786,432 leaves: all of them, and its share")
@pytest.mark.parametrize("leaves", [SMALL, PLAIN_LEAVES], ids=["all", "share"])
def test_plain_walker(benchmark: Any, small: Walk, leaves: int) -> None:
    memory = TablesInMemory(large=False)
    space = AddressSpace("swapper_pg_dir", None, ROOT, small, 0, 1 << 32)
    form = model_walk.pae()

    def looked_at() -> int:
        return sum(
            1
            for _space, part in plain_share((space,), 21, leaves)
            for _leaf in model_walk.walk(memory.read, ROOT, form, part.start, part.end)
        )

    assert benchmark.pedantic(looked_at, rounds=3) <= leaves + 512


@pytest.mark.benchmark(group="786,432 leaves for a person: in runs, and one by one")
@pytest.mark.parametrize("raw", [False, True], ids=["runs", "raw"])
def test_listing(benchmark: Any, small: Walk, raw: bool) -> None:
    found = Mappings(PageTable(ROOT, "swapper_pg_dir"), small, Regions(Layout(), {}, {}, end=1 << 32))
    text = benchmark.pedantic(lambda: page_table(found.pages()) if raw else repr(found), rounds=3)
    assert text.count("\n") in (1, 2, SMALL)


@pytest.fixture(scope="module", params=["", "mem=nopentium"], ids=["large", "small"])
def guest(request: pytest.FixtureRequest) -> Iterator[lifecycle.Guest]:
    """3 GiB, of which 880 MiB are lowmem."""
    with lifecycle.booted(
        f"bench-pages-{bool(request.param)}", kernel="pae", memory="3G", append=request.param
    ) as guest:
        yield guest


@pytest.mark.benchmark(group="whole processes, 3 GiB, with large pages and without")
@pytest.mark.parametrize("command", ["check", "walk --raw"])
def test_process(benchmark: Any, guest: lifecycle.Guest, command: str, run: Run) -> None:
    benchmark.pedantic(run, args=([*command.split(), "-g", guest.name],), rounds=3, warmup_rounds=1)

"""How fast the reference model is, which needs no guest; nothing here asserts a time.

Import and whole processes are those of a fresh Python, as a user has them, beside one that does nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from buddies import SPARSE_FLAGS, TinyMap, booted, kind, sparse

import kvmtools.model
from kvmtools.model import eras, machine
from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.budget import KINDS, Kind, budget
from kvmtools.model.memmaps.flat_map import flat_map
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import PkmapThreads
from kvmtools.model.prediction import Prediction
from kvmtools.records import Range

GIB = 1 << 30
MODEL = Path(kvmtools.model.__file__).parent
MODULES = sorted(f"kvmtools.model.{path.stem}" for path in MODEL.glob("[a-z]*.py"))
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
"""The first run leaves byte code for the others."""


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.benchmark(group="a fresh Python")
@pytest.mark.parametrize(
    "statement", ["pass", f"import {', '.join(MODULES)}"], ids=["nothing", "kvmtools.model"]
)
def test_import(benchmark: Any, statement: str) -> None:
    assert benchmark.pedantic(_run, (sys.executable, "-c", statement), rounds=15, warmup_rounds=1) == ""


@pytest.mark.benchmark(group="whole processes of the model")
@pytest.mark.parametrize(
    "command",
    ["budget", "layout --memory 64G", "memmap --memory 64G", "eras"],
    ids=lambda command: command.split()[0],
)
def test_process(benchmark: Any, command: str) -> None:
    words = (sys.executable, "-m", "kvmtools.model", *command.split())
    assert benchmark.pedantic(_run, words, rounds=7, warmup_rounds=1)


@pytest.mark.benchmark(group="64 GiB")
class TestLargeMachine:
    """Computed from ranges: 16,777,216 pages cost no more than a few."""

    @pytest.mark.parametrize("memory", [GIB, 64 * GIB], ids=["1 GiB", "64 GiB"])
    def test_everything_predicted(self, benchmark: Any, memory: int) -> None:
        def predict() -> Prediction:
            prediction = Prediction(machine.configuration(memory=memory))
            assert prediction.zones
            assert prediction.expectations
            assert prediction.memmap
            return prediction

        assert benchmark(predict).ram.ranges[-1].end > memory - GIB // 2 >> 12

    @pytest.mark.parametrize("map_kind", KINDS, ids=lambda map_kind: map_kind.name)
    def test_budget(self, benchmark: Any, map_kind: Kind) -> None:
        assert benchmark(budget, machine.configuration(memory=64 * GIB), map_kind)

    def test_flat_map(self, benchmark: Any) -> None:
        """With its simulated memory, of which it touches three words."""
        assert benchmark(flat_map, machine.configuration(memory=4 * GIB)).pfn_valid(0xFFFFF)


RAM = (Range(0, 1024),)


def _buddy(name: str) -> Buddy:
    if name == "a dictionary":
        return booted(TinyMap(range(1024)), RAM, eras.named("6.1"))
    mem_map, flags = (sparse(RAM, 1024), SPARSE_FLAGS) if name == "sparse" else kind(name, RAM, 11)
    return booted(mem_map, RAM, eras.named("6.1"), flags=flags, holes_in_zone=name == "virtual")


@pytest.mark.benchmark(group="buddy: alloc and free of a page, ten splits and ten merges")
@pytest.mark.parametrize("name", ["a dictionary", "flat", "sparse", "virtual"])
def test_buddy_worst(benchmark: Any, name: str) -> None:
    buddy = _buddy(name)

    def alloc_and_free() -> None:
        pfn = buddy.alloc()
        assert pfn is not None
        buddy.free(pfn)

    benchmark(alloc_and_free)
    assert buddy.free_pages == 1024


@pytest.mark.benchmark(group="buddy: alloc and free of a page, no split and no merge")
@pytest.mark.parametrize("name", ["a dictionary", "flat", "sparse", "virtual"])
def test_buddy_best(benchmark: Any, name: str) -> None:
    buddy = _buddy(name)
    while buddy.alloc() is not None:
        pass
    buddy.free(5)

    def alloc_and_free() -> None:
        buddy.alloc()
        buddy.free(5)

    benchmark(alloc_and_free)
    assert buddy.free_pages == 1


@pytest.mark.benchmark(group="pkmap: kmap and kunmap of a page")
@pytest.mark.parametrize("pages", [1, 4096], ids=["the same page", "page after page, with flushes"])
def test_pkmap(benchmark: Any, pages: int) -> None:
    table = PkmapTable(PkmapArea(0xFF600000, 512, 0x163), eras.named("6.1"))
    threads = PkmapThreads(table, ["bench"])
    turn = 0

    def kmap_and_kunmap() -> None:
        nonlocal turn
        page = 0xF7000000 + turn % pages * 32
        turn += 1
        threads.kmap("bench", page)
        threads.finish("bench")
        threads.kunmap("bench", page)
        threads.finish("bench")

    benchmark(kmap_and_kunmap)
    assert threads.table.pkmap_count.count(2) == 0

"""Where a sparse file has data, against a list of its pages; and for those who may not write it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmtools.attach.memory.file_data import FileData
from kvmtools.attach.memory.flat_view import Backed
from kvmtools.attach.memory.ram_file import RamFile

PAGE = 4096
PAGES = 64


@pytest.fixture
def sparse() -> Iterator[Path]:
    path = Path(f"/dev/shm/kvmtools-test-data-{os.getpid()}")
    path.touch(mode=0o644)
    os.truncate(path, PAGES * PAGE)
    yield path
    path.unlink()


@pytest.mark.parametrize("seed", range(20))
def test_what_has_data_is_told_at_every_place_and_while_it_grows(sparse: Path, seed: int) -> None:
    chooser = random.Random(seed)
    there: set[int] = set()
    with sparse.open("r+b") as file:
        data = FileData(file.fileno())
        for _ in range(40):
            for page in chooser.sample(range(PAGES), chooser.randrange(4)):
                os.pwrite(file.fileno(), b"x", page * PAGE)
                there.add(page)
            start = chooser.randrange(PAGES * PAGE)
            size = chooser.randint(1, PAGES * PAGE - start)
            touched = range(start // PAGE, (start + size - 1) // PAGE + 1)
            assert data.covers(start, size) == (set(touched) <= there), (start, size)
            later = [page for page in sorted(there) if page >= start // PAGE]
            assert data.next(start) == (max(start, later[0] * PAGE) if later else None)


def test_beyond_the_end_is_no_data(sparse: Path) -> None:
    with sparse.open("r+b") as file:
        os.pwrite(file.fileno(), b"x", (PAGES - 1) * PAGE)
        data = FileData(file.fileno())
        assert data.covers((PAGES - 1) * PAGE, PAGE)
        assert not data.covers((PAGES - 1) * PAGE, PAGE + 1)
        assert not data.covers(PAGES * PAGE, 1)


def look(path: Path) -> None:
    """At every page."""
    memory = RamFile(path, [Backed(0, PAGES * PAGE, "ram", 0)])
    for address in range(0, PAGES * PAGE, PAGE):
        bytes(memory.view(address, PAGE))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write its files")
def test_looking_costs_no_memory_though_the_file_may_not_be_written(sparse: Path) -> None:
    """Since Linux 5.2 mincore(2) tells such a one that everything is present."""
    before = sparse.stat().st_blocks
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setuid(65534)
            look(sparse)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert sparse.stat().st_blocks == before

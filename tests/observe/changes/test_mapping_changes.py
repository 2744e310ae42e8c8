"""Two page tables compared, beside a comparison that looks at every page of both by itself."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmtools.observe.changes.mapping_changes import CHANGES, mapping_changes
from kvmtools.observe.paging.forms import NON_PAE
from kvmtools.observe.paging.walk import Walk, walk
from kvmtools.records import PAGE_SIZE, Range

LARGE_PAGES = 1024
PGD, TABLE = 0x1000, 0x2000
PRESENT, WRITABLE, ACCESSED, LARGE, GLOBAL = 1, 2, 1 << 5, 1 << 7, 1 << 8


class Memory:
    """A page directory with one table, and whatever else is asked for."""

    name = "test"
    ranges = (Range(0, 1 << 20),)

    def __init__(self, table: list[int], large: list[int]) -> None:
        self.data = bytearray(0x4000)
        pgd = [TABLE | 7, *large]
        self.data[PGD : PGD + 4 * len(pgd)] = struct.pack(f"<{len(pgd)}I", *pgd)
        self.data[TABLE : TABLE + 4 * len(table)] = struct.pack(f"<{len(table)}I", *table)

    def view(self, address: int, size: int) -> memoryview:
        return memoryview(bytes(self.data[address : address + size])).toreadonly()

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.view(address, size))

    def readinto(self, address: int, buffer: memoryview) -> None:
        buffer[:] = self.view(address, len(buffer))

    def close(self) -> None:
        """Nothing is held."""


def walked(table: list[int], large: list[int]) -> Walk:
    return walk(Memory(table, large), PGD, NON_PAE)


def pages(table: list[int], large: list[int]) -> dict[int, tuple[int, int]]:
    """By virtual page: the physical one, and the flags that count."""
    counted = PRESENT | WRITABLE | GLOBAL
    found = {page: (entry >> 12, entry & counted) for page, entry in enumerate(table) if entry & PRESENT}
    for number, entry in enumerate(large, 1):
        if entry & PRESENT:
            for page in range(LARGE_PAGES):
                place = (entry >> 22) * LARGE_PAGES + page
                found[number * LARGE_PAGES + page] = (place, entry & counted)
    return found


ENTRY = st.builds(
    lambda pfn, flags: pfn << 12 | flags,
    st.integers(1, 4),
    st.sampled_from([0, PRESENT, PRESENT | WRITABLE, PRESENT | ACCESSED, PRESENT | GLOBAL]),
)
LARGE_ENTRY = st.builds(
    lambda number, flags: number << 22 | flags | LARGE * (flags != 0),
    st.integers(0, 2),
    st.sampled_from([0, PRESENT, PRESENT | WRITABLE]),
)
TABLES = st.tuples(st.lists(ENTRY, max_size=12), st.lists(LARGE_ENTRY, max_size=2))


@given(
    TABLES, TABLES, st.lists(st.integers(0, 14).map(lambda page: page * PAGE_SIZE), unique=True).map(sorted)
)
@settings(deadline=None)
def test_page_by_page(
    before: tuple[list[int], list[int]], after: tuple[list[int], list[int]], boundaries: list[int]
) -> None:
    old, new = pages(*before), pages(*after)
    wanted = {
        page: "gone" if page not in new else "appeared" if page not in old else "changed"
        for page in old.keys() | new.keys()
        if old.get(page) != new.get(page)
    }
    changes = mapping_changes(walked(*before), walked(*after), boundaries)
    found = {}
    stretches = []
    for row in range(len(changes)):
        start, size = int(changes.virtual[row]), int(changes.size[row])
        kind = CHANGES[changes.change[row]]
        assert (changes.before[row] < 0, changes.after[row] < 0) == (kind == "appeared", kind == "gone")
        assert not any(start < edge < start + size for edge in boundaries)
        stretches.append((start, start + size))
        found |= dict.fromkeys(range(start // PAGE_SIZE, (start + size) // PAGE_SIZE), kind)
    assert found == wanted
    assert all(end <= start for (_, end), (start, _) in pairwise(stretches))


def test_a_split_page_is_no_change() -> None:
    table = [page << 12 | PRESENT | WRITABLE for page in range(LARGE_PAGES)]
    split = walked([], [TABLE | 7])
    memory = Memory(table, [])
    memory.data[PGD : PGD + 8] = struct.pack("<2I", 0, TABLE | 7)
    split = walk(memory, PGD, NON_PAE)
    memory.data[PGD : PGD + 8] = struct.pack("<2I", 0, PRESENT | WRITABLE | LARGE)
    whole = walk(memory, PGD, NON_PAE)
    assert (len(split), len(whole)) == (LARGE_PAGES, 1)
    assert len(mapping_changes(split, whole)) == 0
    assert len(mapping_changes(whole, walked([], []))) == 1


def test_neighbours_that_changed_alike_are_one() -> None:
    table = [page << 12 | PRESENT for page in (9, 3, 7)]
    changes = mapping_changes(walked([], []), walked(table, []))
    assert (changes.virtual.tolist(), changes.size.tolist()) == ([0], [3 * PAGE_SIZE])
    rights = [table[0], table[1] | WRITABLE, table[2]]
    assert len(mapping_changes(walked([], []), walked(rights, []))) == 3
    assert np.array_equal(mapping_changes(walked([], []), walked([], [])).size, np.zeros(0, np.uint64))

"""Building page tables: what is mapped is found, what cannot be is refused, what is empty is given back."""

from __future__ import annotations

import struct

import pytest

from kvmtools.errors import KvmtoolsError, UsageError
from kvmtools.model.paging.page_tables import EVERYTHING, PageTables
from kvmtools.model.paging.physical import Physical
from kvmtools.model.paging.walk import Fault, PagingForm, long_mode, non_pae, pae, translate, walk
from kvmtools.records import Leaf, Range

FORMS = [non_pae(), pae(), long_mode()]
KERNEL_PAGE = 0x163
"""P, R/W, A, D, G: __PAGE_KERNEL_EXEC of arch/x86/include/asm/pgtable_types.h (6.1)."""
any_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


class Frames:
    """A free list: frames from 0x1000 up, and those that come back."""

    def __init__(self, count: int = 1 << 20) -> None:
        self.fresh = iter(range(0x1000, 0x1000 * (count + 1), 0x1000))
        self.back: list[int] = []

    def allocate(self) -> int:
        frame = next(self.fresh, None)
        if frame is None:
            raise KvmtoolsError("out of frames")
        return frame

    def tables(self, form: PagingForm, root: int | None = None) -> PageTables:
        return PageTables(Physical(), form, self.allocate, root, release=self.back.append)


def found(tables: PageTables, virtual: int) -> Leaf | Fault:
    return translate(tables.memory.read, tables.root, virtual, tables.form)


@any_form
def test_a_page_is_mapped_and_gone_again(form: PagingForm) -> None:
    frames = Frames()
    tables = frames.tables(form)
    assert [(table.level, table.address) for table in tables.tables()] == [(form.levels[0], 0x1000)]
    tables.map(0xC0001000, 0x7000)
    # One new table below each level but the last (SDM 3A, figures 4-2, 4-5, 4-8).
    assert [table.level for table in tables.tables()] == list(form.levels)
    assert [table.address for table in tables.tables()] == [
        0x1000 * n for n in range(1, 1 + len(form.levels))
    ]
    leaf = found(tables, 0xC0001ABC)
    assert isinstance(leaf, Leaf)
    assert (leaf.virtual, leaf.physical, leaf.size, leaf.entry) == (0xC0001000, 0x7000, 4096, 0x7003)
    assert (leaf.writable, leaf.user, leaf.executable) == (True, False, True)
    assert tables.unmap(0xC0001000) == leaf
    assert list(walk(tables.memory.read, tables.root, form)) == []
    assert [table.address for table in tables.tables()] == [0x1000]
    assert frames.back == [0x1000 * n for n in range(len(form.levels), 1, -1)]
    assert not any(tables.memory.read(0x1000, 4096))


@any_form
def test_every_size_of_leaf(form: PagingForm) -> None:
    tables = Frames().tables(form)
    for place, size in enumerate(form.leaf_levels):
        virtual = form.windows[-1].end - (place + 1) * (1 << 30)
        tables.map(virtual, 0x40000000, size=size, flags=KERNEL_PAGE)
        leaf = found(tables, virtual + size - 1)
        assert isinstance(leaf, Leaf)
        assert (leaf.virtual, leaf.physical, leaf.size) == (virtual, 0x40000000, size)
        # Bit 7 says that the page is large (SDM 3A, table 4-4).
        assert leaf.entry == 0x40000000 | KERNEL_PAGE | (0x80 if size > 4096 else 0)
    assert len(list(walk(tables.memory.read, tables.root, form))) == len(form.leaf_levels)


def test_the_entries_that_lead_to_tables() -> None:
    # SDM 3A, table 4-8: a PDPTE of PAE has neither R/W nor U/S; elsewhere it grants all, and the leaf decides.
    frames = Frames()
    tables = PageTables(Physical(), pae(), frames.allocate, table_flags=0x67)
    tables.map(0xC0001000, 0x7000)
    assert tables.memory.read(0x1018, 8) == struct.pack("<Q", 0x2001)
    assert tables.memory.read(0x2000, 8) == struct.pack("<Q", 0x3067)
    tables = Frames().tables(long_mode())
    tables.map(0, 0x7000, flags=EVERYTHING)
    assert [tables.memory.read(0x1000 * n, 1) for n in range(1, 5)] == [b"\x07"] * 4
    assert EVERYTHING == 7


def test_a_root_may_be_given_and_need_not_fill_a_page() -> None:
    frames = Frames()
    memory = Physical()
    memory.write(0x91FC0, b"\xff" * 0x60)
    memory.write(0x91FE0, bytes(32))
    tables = PageTables(memory, pae(), frames.allocate, 0x91FF8, release=frames.back.append)
    assert tables.root == 0x91FF8
    tables.map(0x40000000, 0x7000)
    assert memory.read(0x91FC0, 0x60) == b"\xff" * 0x20 + struct.pack("<4Q", 0, 0x1001, 0, 0) + b"\xff" * 0x20
    assert [table.address for table in tables.tables()] == [0x91FE0, 0x1000, 0x2000]
    tables.unmap(0x40000000)
    assert frames.back == [0x2000, 0x1000]


def test_a_root_of_its_own_is_cleared_and_no_more_than_it() -> None:
    memory = Physical()
    memory.write(0x1000, b"\xff" * 0x2000)
    PageTables(memory, pae(), iter([0x1000]).__next__)
    assert memory.read(0x1000, 0x2000) == bytes(32) + b"\xff" * (0x2000 - 32)
    PageTables(memory, non_pae(), iter([0x1000]).__next__)
    assert memory.read(0x1000, 0x2000) == bytes(0x1000) + b"\xff" * 0x1000


@any_form
def test_a_new_table_is_cleared(form: PagingForm) -> None:
    memory = Physical()
    memory.write(0x1000, b"\xff" * 0x4000)
    tables = PageTables(memory, form, Frames().allocate)
    tables.map(0, 0x7000)
    assert len(list(walk(memory.read, tables.root, form))) == 1


def test_tables_that_others_still_need_stay() -> None:
    frames = Frames()
    tables = frames.tables(pae())
    tables.map(0x00000000, 0x7000)
    tables.map(0x00001000, 0x8000)
    tables.map(0x00200000, 0x9000)
    tables.map(0x00400000, 0x400000, size=2 << 20)
    assert [table.address for table in tables.tables()] == [0x1000, 0x2000, 0x3000, 0x4000]
    tables.unmap(0x00000000)
    assert frames.back == []
    tables.unmap(0x00001000)
    assert frames.back == [0x3000]
    tables.unmap(0x00200000)
    assert frames.back == [0x3000, 0x4000]
    assert tables.unmap(0x00400000, 2 << 20).size == 2 << 20
    assert frames.back == [0x3000, 0x4000, 0x2000]


def test_who_takes_no_frames_back_need_not_listen() -> None:
    tables = PageTables(Physical(), non_pae(), Frames().allocate)
    tables.map(0x1000, 0x7000)
    assert tables.unmap(0x1000).physical == 0x7000


@any_form
def test_tables_can_be_prepared_for_pages_to_come(form: PagingForm) -> None:
    frames = Frames()
    tables = frames.tables(form)
    tables.populate(0xC0001000)
    tables.populate(0xC0002000)
    assert [table.level for table in tables.tables()] == list(form.levels)
    assert list(walk(tables.memory.read, tables.root, form)) == []
    answer = found(tables, 0xC0001000)
    assert isinstance(answer, Fault)
    assert (answer.level, answer.index, answer.entry, answer.reason) == ("pte", 1, 0, "not present")
    # What is not present may hold the kernel's own bits (a swapped page): they stay.
    last = answer.table + answer.index * form.entry_size
    tables.memory.write(last, b"\xa4")
    tables.populate(0xC0001000)
    assert tables.memory.read(last, 1) == b"\xa4"
    tables.map(0xC0001000, 0x7000)
    assert len(list(tables.tables())) == len(form.levels)
    with pytest.raises(UsageError, match="0xc0001000 is mapped already"):
        tables.populate(0xC0001000)
    with pytest.raises(UsageError, match="0xc0001800 is not aligned to 0x1000"):
        tables.populate(0xC0001800)


@any_form
@pytest.mark.parametrize(
    ("virtual", "physical", "how", "reason"),
    [
        (0x1800, 0x7000, {}, "virtual address 0x1800 is not aligned to 0x1000"),
        (0x1000, 0x7800, {}, "physical address 0x7800 is not aligned to 0x1000"),
        (0x1000, 0x7000, {"size": 8192}, "paging has no leaf of 0x2000 bytes: .*0x1000"),
        (0x1000, 0x7000, {"flags": 2}, "flags 0x2 lack the present bit"),
        (0x1000, 0x7000, {"flags": 0x1001}, "flags 0x1001 are not all flags of a 0x1000-byte leaf"),
        (-4096, 0x7000, {}, "paging has no virtual address -0x1000"),
        (0x1000, 1 << 52, {}, "cannot hold the physical address 0x10000000000000"),
    ],
)
def test_what_cannot_be_mapped(
    form: PagingForm, virtual: int, physical: int, how: dict[str, int], reason: str
) -> None:
    frames = Frames()
    tables = frames.tables(form)
    with pytest.raises(UsageError, match=reason):
        tables.map(virtual, physical, **how)
    assert len(list(tables.tables())) == 1
    assert frames.allocate() == 0x2000
    assert frames.back == []


@pytest.mark.parametrize(
    ("form", "virtual", "physical", "how", "reason"),
    [
        (non_pae(), 1 << 32, 0, {}, "non-PAE paging has no virtual address 0x100000000"),
        (pae(), 1 << 32, 0, {}, "PAE paging has no virtual address 0x100000000"),
        (long_mode(), 1 << 47, 0, {}, "4-level paging has no virtual address 0x800000000000"),
        (non_pae(), 0, 1 << 32, {}, "a leaf of non-PAE paging cannot hold the physical address 0x100000000"),
        (pae(physical_bits=36), 0, 1 << 36, {}, "a leaf of PAE paging cannot hold"),
        (non_pae(physical_bits=36), 0, 1 << 36, {"size": 4 << 20}, "cannot hold"),
        (non_pae(pse=False), 0, 0, {"size": 4 << 20}, "no leaf of 0x400000 bytes: 0x1000$"),
        (long_mode(), 0, 0, {"size": 4 << 20}, "bytes: 0x40000000, 0x200000, 0x1000$"),
        (pae(), 0x1000, 0, {"size": 2 << 20}, "virtual address 0x1000 is not aligned to 0x200000"),
        (pae(), 0, 0x1000, {"size": 2 << 20}, "physical address 0x1000 is not aligned to 0x200000"),
        (pae(nx=False), 0, 0, {"flags": 1 | 1 << 63}, "flags 0x8000000000000001 are not all flags"),
        (non_pae(), 0, 0, {"flags": 1 | 1 << 63}, "flags 0x8000000000000001 are not all flags"),
        (non_pae(), 0, 0, {"flags": 1 | 1 << 32}, "flags 0x100000001 are not all flags"),
        (non_pae(), 0, 0, {"flags": 1 | 1 << 13, "size": 4 << 20}, "flags 0x2001 are not all flags"),
        (non_pae(physical_bits=40), 0, 0, {"flags": 1 | 1 << 13, "size": 4 << 20}, "flags 0x2001 are not"),
        (pae(), 0, 0, {"flags": 1 | 1 << 20, "size": 2 << 20}, "flags 0x100001 are not all flags"),
        (pae(), 0, 0, {"flags": 1 | 1 << 64}, "flags 0x10000000000000001 are not all flags"),
    ],
)
def test_what_a_form_has_no_room_for(
    form: PagingForm, virtual: int, physical: int, how: dict[str, int], reason: str
) -> None:
    tables = Frames().tables(form)
    with pytest.raises(UsageError, match=reason):
        tables.map(virtual, physical, **how)


@pytest.mark.parametrize(
    ("form", "physical", "how", "entry"),
    [
        (non_pae(), 0xFFFFF000, {}, 0xFFFFF003),
        # SDM 3A, table 4-4: bits 20:13 of a 4 MiB leaf are address bits 39:32; bit 12 is PAT.
        (non_pae(physical_bits=40), 0xABC0000000, {"size": 4 << 20}, 0xC0156083),
        (non_pae(physical_bits=40), 0x100000000, {"size": 4 << 20, "flags": 0x1001}, 0x3081),
        (pae(physical_bits=36), 0xFFFFFF000, {"flags": 1 | 1 << 63}, 0x8000000FFFFFF001),
        (pae(), 0xFFFFFFFE00000, {"size": 2 << 20, "flags": 0x11E3}, 0xFFFFFFFE011E3),
        # Bit 7 of a small leaf is PAT (table 4-11); in a large one it may be said, and is set anyway.
        (pae(), 0x7000, {"flags": 0x81}, 0x7081),
        (pae(), 0x200000, {"flags": 0x81, "size": 2 << 20}, 0x200081),
        (long_mode(), 0x7000, {"flags": 1 | 0x7FF << 52}, 0x7FF0000000007001),
        (long_mode(), 0xFFFFFC0000000, {"size": 1 << 30}, 0xFFFFFC0000083),
    ],
)
def test_how_a_leaf_is_written(form: PagingForm, physical: int, how: dict[str, int], entry: int) -> None:
    tables = Frames().tables(form)
    tables.map(0, physical, **how)
    leaf = found(tables, 0)
    assert isinstance(leaf, Leaf)
    assert (leaf.entry, leaf.physical) == (entry, physical)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ((0x200000, 4096), (0x200000, 4096), "0x200000 is mapped already: 0x1000 bytes to 0x0"),
        ((0x200000, 2 << 20), (0x200000, 2 << 20), "0x200000 is mapped already: 0x200000 bytes to 0x0"),
        ((0x200000, 2 << 20), (0x201000, 4096), "0x201000 is mapped already: 0x200000 bytes to 0x0"),
        ((0x200000, 4096), (0x200000, 2 << 20), "0x200000 is mapped already: 0x1000 bytes to 0x0"),
        (
            (0x201000, 4096),
            (0x200000, 2 << 20),
            "0x200000: a table of smaller pages is where a 0x200000-byte one",
        ),
        ((0x40201000, 4096), (0x40000000, 1 << 30), "0x40000000: a table of smaller pages"),
    ],
)
def test_nothing_is_mapped_twice(first: tuple[int, int], second: tuple[int, int], reason: str) -> None:
    frames = Frames()
    tables = frames.tables(long_mode())
    tables.map(first[0], 0, size=first[1])
    before = list(tables.tables())
    with pytest.raises(UsageError, match=reason):
        tables.map(second[0], 0x40000000, size=second[1])
    assert list(tables.tables()) == before
    assert [leaf.virtual for leaf in walk(tables.memory.read, tables.root, tables.form)] == [first[0]]


@pytest.mark.parametrize(
    ("virtual", "size", "reason"),
    [
        (0x2000, 4096, r"nothing to unmap at 0x00002000: pte\[2\] at 0x3000 = 0x0: not present"),
        (0x200000, 4096, "0x200000 is mapped by a leaf of 0x200000 bytes, not 0x1000"),
        (0x000000, 2 << 20, "0x0 is mapped by a leaf of 0x1000 bytes, not 0x200000"),
        (0x200800, 4096, "not aligned"),
        (0x0, 4 << 20, "no leaf of 0x400000 bytes"),
        (1 << 32, 4096, "no virtual address 0x100000000"),
    ],
)
def test_what_cannot_be_unmapped(virtual: int, size: int, reason: str) -> None:
    frames = Frames()
    tables = frames.tables(pae())
    tables.map(0, 0x7000)
    tables.map(0x200000, 0x200000, size=2 << 20)
    with pytest.raises(UsageError, match=reason):
        tables.unmap(virtual, size)
    assert len(list(walk(tables.memory.read, tables.root, pae()))) == 2
    assert frames.back == []


@pytest.mark.parametrize(
    ("entry", "reason"),
    [(0x2000E3 | 1 << 13, "reserved bits 0x2000"), (1 << 40 | 0x67, "the table is not in RAM")],
)
def test_tables_that_are_broken_are_left_alone(entry: int, reason: str) -> None:
    tables = Frames().tables(pae())
    tables.map(0x200000, 0x7000)
    tables.memory.write(0x2000, struct.pack("<Q", entry))
    with pytest.raises(UsageError, match=f"cannot map .*{reason}"):
        tables.map(0x1000, 0x7000)
    with pytest.raises(UsageError, match=f"nothing to unmap at .*{reason}"):
        tables.unmap(0x1000)


def test_frames_that_run_out_half_way_come_back() -> None:
    frames = Frames(3)
    tables = frames.tables(long_mode())
    with pytest.raises(KvmtoolsError, match="out of frames"):
        tables.map(0, 0x7000)
    assert frames.back == [0x2000, 0x3000]
    assert isinstance(found(tables, 0), Fault)
    assert len(list(tables.tables())) == 1


@pytest.mark.parametrize(
    ("form", "root", "good", "bad"),
    [
        (non_pae(), 0xFFFFF000, 0xFFFFE000, 1 << 32),
        (pae(physical_bits=36), 0xFFFFF000, 0xFFFFFF000, 1 << 36),
        (long_mode(physical_bits=40), 0xFFFFFFF000, 0xFFFFFFE000, 1 << 40),
    ],
    ids=["non-PAE", "PAE", "4-level"],
)
def test_a_table_lies_where_an_entry_can_point(form: PagingForm, root: int, good: int, bad: int) -> None:
    memory = Physical((Range(0, 1 << 41),))
    back: list[int] = []

    def tables(*frames: int, root: int | None = None) -> PageTables:
        return PageTables(memory, form, iter(frames).__next__, root, release=back.append)

    for frame in (bad, 0x1234):
        with pytest.raises(UsageError, match=f"{form.name} paging can have no table at {frame:#x}"):
            tables(root, frame).map(0, 0x7000)
    assert tables(root).root == root
    if form.pointer_registers:
        # CR3 has 32 bits there, whatever a PDPTE can hold (SDM 3A, table 4-7).
        with pytest.raises(UsageError, match="no table at 0x100000000"):
            tables(1 << 32)
    tables(root, good, 0x5000, 0x6000).map(0, 0x7000)
    assert [leaf.physical for leaf in walk(memory.read, root, form)] == [0x7000]
    with pytest.raises(UsageError, match="no table"):
        tables(bad)
    assert back == [bad, 0x1234, bad] if not form.pointer_registers else [bad, 0x1234, 1 << 32, bad]

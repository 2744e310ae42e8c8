"""The observer's three walkers, against tables written by hand and against each other."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.errors import MemoryFault
from kvmtools.observe.paging.forms import NON_PAE, PAE, Form, on_processor
from kvmtools.observe.paging.translate import NOT_MAPPED
from kvmtools.observe.paging.translate_many import translate_many
from kvmtools.observe.paging.walk import translate, walk
from kvmtools.records import Range

MakeMemory = Callable[..., Any]
PAGE = 4096
REASONS = {"not present": "not present", "reserved": "reserved bits", "no RAM": "outside RAM"}


@pytest.fixture
def vector_memory(paging_vector: Any, little_memory: MakeMemory) -> Any:
    pages = paging_vector.memory.frames
    memory = little_memory(*((page * PAGE, (page + 1) * PAGE) for page in pages))
    for page in pages:
        memory.write(page * PAGE, paging_vector.memory.read(page * PAGE, PAGE))
    return memory


def form_of(vector: Any) -> Form:
    form = PAE if vector.form_name == "pae" else NON_PAE
    return on_processor(
        form,
        pse=vector.options.get("pse", True),
        nx=vector.options.get("nx", True),
        physical_bits=vector.options["physical_bits"],
    )


def test_walk_finds_the_leaves_of_the_vectors(paging_vector: Any, vector_memory: Any) -> None:
    found = walk(vector_memory, paging_vector.cr3, form_of(paging_vector))
    by_address = {mapping.virtual: mapping for mapping in found.mappings()}
    for leaf in paging_vector.leaves:
        mapping = by_address[leaf.virtual]
        rights = (mapping.writable, mapping.user, mapping.executable)
        assert (mapping.physical, mapping.size) == (leaf.physical, leaf.size)
        assert rights == (leaf.writable, leaf.user, leaf.executable)


def way_through(vector: Any, memory: Any, virtual: int) -> Any:
    return translate(memory, vector.cr3, virtual, form_of(vector))


def test_translate_takes_the_way_of_the_vectors(paging_vector: Any, vector_memory: Any) -> None:
    for leaf in paging_vector.leaves:
        inside = leaf.size // 3
        way = way_through(paging_vector, vector_memory, leaf.virtual + inside)
        assert way.fault is None
        assert (way.physical, way.size) == (leaf.physical + inside, leaf.size)
        assert (way.writable, way.user, way.executable) == (leaf.writable, leaf.user, leaf.executable)
    for stop in paging_vector.stops:
        way = way_through(paging_vector, vector_memory, stop.virtual)
        assert (way.virtual, way.physical) == (stop.virtual, None)
        assert REASONS[stop.reason] in way.fault
        assert (way.steps[-1].name, way.steps[-1].index) == (stop.level, stop.slot)


def test_many_at_once_lead_where_the_vectors_say(paging_vector: Any, vector_memory: Any) -> None:
    inside = {leaf.virtual + leaf.size // 3: leaf.physical + leaf.size // 3 for leaf in paging_vector.leaves}
    nowhere = {stop.virtual: NOT_MAPPED for stop in paging_vector.stops}
    wanted = {**inside, **nowhere}
    asked = np.array(list(wanted), np.uint32)  # as wide as the guest's pointers
    found = translate_many(vector_memory, paging_vector.cr3, asked, form_of(paging_vector))
    assert dict(zip(wanted, found.tolist(), strict=True)) == wanted


@pytest.mark.parametrize(
    "form", [PAE, NON_PAE, on_processor(PAE, nx=False), on_processor(PAE, physical_bits=31)], ids=range(4)
)
@pytest.mark.parametrize("seed", range(2))
def test_many_at_once_lead_where_one_by_one_they_do(little_memory: MakeMemory, form: Form, seed: int) -> None:
    memory = little_memory()
    cr3 = random_tables(memory, pae=form.name == "PAE", seed=seed)
    generator = random.Random(seed)
    leaves = walk(memory, cr3, form).virtual.tolist()
    asked = [generator.choice(leaves) + generator.randrange(PAGE) for _ in range(400)]
    asked += [generator.randrange(1 << 32) for _ in range(400)]
    one_by_one = [translate(memory, cr3, virtual, form).physical for virtual in asked]
    assert one_by_one.count(None) not in (0, len(asked))
    found = translate_many(memory, cr3, np.array(asked), form)
    assert found.tolist() == [NOT_MAPPED if physical is None else physical for physical in one_by_one]
    assert len(translate_many(memory, cr3, np.array([], np.uint64), form)) == 0


def test_every_leaf_is_one_that_the_processor_would_use_or_refuse(
    paging_vector: Any, vector_memory: Any
) -> None:
    """``walk`` shows what stands in the tables; ``translate`` knows what a processor refuses for reserved
    bits.
    """
    found = walk(vector_memory, paging_vector.cr3, form_of(paging_vector))
    ways = [way_through(paging_vector, vector_memory, virtual) for virtual in found.virtual.tolist()]
    usable = [way for way in ways if way.fault is None]
    assert len(usable) == paging_vector.leaf_count
    assert all("reserved" in way.fault for way in ways if way.fault is not None)


def random_tables(memory: Any, *, pae: bool, seed: int) -> int:
    """Fill 1 MiB with tables that lead to each other, to RAM and to nowhere; CR3 of the result."""
    generator = random.Random(seed)
    count = 512 if pae else 1024
    targets = [*range(0, 1 << 20, PAGE), *range(0x7FFC_0000, 0x8000_0000, PAGE)]
    for table in range(0, 1 << 20, PAGE):
        entries = []
        for _ in range(count):
            flags = generator.getrandbits(12) if generator.random() < 0.1 else 0
            nx = generator.getrandbits(1) << 63 if pae and flags else 0
            entries.append(generator.choice(targets) | flags | nx if flags & 1 else flags & ~1)
        memory.write(table, struct.pack(f"<{count}{'Q' if pae else 'I'}", *entries))
    if pae:
        pdpt = [generator.randrange(1, 256) * PAGE | 1 for _ in range(4)]
        memory.write(0x20, struct.pack("<4Q", *pdpt))
        return 0x20
    return 0


@pytest.mark.parametrize("form", [PAE, NON_PAE], ids=lambda form: form.name)
@pytest.mark.parametrize("seed", range(3))
def test_both_walkers_agree_on_tables_that_nobody_would_write(
    little_memory: MakeMemory, form: Form, seed: int
) -> None:
    memory = little_memory()
    cr3 = random_tables(memory, pae=form is PAE, seed=seed)
    found = walk(memory, cr3, form)
    assert len(found) > 50
    assert np.all(np.diff(found.virtual.astype(np.int64)) > 0)
    assert not np.all(found.tables.readable), "some tables must lie outside RAM"
    for mapping in found.mappings():
        way = translate(memory, cr3, mapping.virtual, form)
        assert (way.steps[-1].table, way.steps[-1].index) == (mapping.table, mapping.index)
        assert (way.steps[-1].entry, way.steps[-1].level) == (mapping.entry, mapping.level)
        if way.fault is None:
            assert (way.physical, way.size) == (mapping.physical, mapping.size)
            assert (way.writable, way.user) == (mapping.writable, mapping.user)
            assert way.executable == mapping.executable
        else:
            assert "reserved" in way.fault
    generator = random.Random(seed)
    for virtual in (generator.randrange(1 << 32) & ~0xFFF for _ in range(500)):
        way = translate(memory, cr3, virtual, form)
        row = int(found.rows(np.array([virtual]))[0])
        if way.fault is None:
            assert found.physical[row] + virtual - found.virtual[row] == way.physical
        elif "reserved" not in way.fault:
            assert row == -1


def test_a_part_of_the_address_space_is_a_part_of_the_walk(little_memory: MakeMemory) -> None:
    memory = little_memory()
    cr3 = random_tables(memory, pae=True, seed=7)
    whole = walk(memory, cr3, PAE)
    start, end = 0x4012_3000, 0xC765_4000
    part = walk(memory, cr3, PAE, start=start, end=end)
    touched = (whole.virtual < end) & (whole.virtual + whole.size > start)
    assert 0 < len(part) < len(whole)
    assert np.array_equal(part.virtual, whole.virtual[touched])
    assert np.array_equal(part.entry, whole.entry[touched])
    rows = whole.within(start, end)
    assert np.all((whole.virtual[rows] >= start) & (whole.virtual[rows] < end))
    assert rows.stop - rows.start == np.count_nonzero((whole.virtual >= start) & (whole.virtual < end))


def test_the_tables_say_who_leads_to_them(little_memory: MakeMemory) -> None:
    memory = little_memory()
    memory.write(0x1FE0, struct.pack("<Q", 0x3001))
    memory.write(0x3000 + 8 * 5, struct.pack("<Q", 0x4067))
    memory.write(0x3000 + 8 * 6, struct.pack("<Q", 0x20_0000_0067))  # beyond RAM
    memory.write(0x4000 + 8 * 9, struct.pack("<Q", 0x8000_0000_0000_7003))
    found = walk(memory, 0x1FE0 | 0x18, PAE)
    tables = found.tables
    assert tables.physical.tolist() == [0x1FE0, 0x3000, 0x4000, 0x20_0000_0000]
    assert tables.level.tolist() == [3, 2, 1, 1]
    assert tables.virtual.tolist() == [0, 0, 5 << 21, 6 << 21]
    assert tables.parent_entry.tolist() == [0x1FF8, 0x3001, 0x4067, 0x20_0000_0067]
    assert tables.readable.tolist() == [True, True, True, False]
    assert found.mapping(0).virtual == (5 << 21) + (9 << 12)
    assert found.rows(np.array([found.virtual[0] + 4095, found.virtual[0] + 4096])).tolist() == [0, -1]


def test_no_tables_at_all(little_memory: MakeMemory) -> None:
    empty = walk(little_memory(), 0x1000, NON_PAE)
    assert len(empty) == 0
    assert empty.rows(np.array([0, 0xC000_0000])).tolist() == [-1, -1]
    nowhere = walk(little_memory(), 0x7000_0000, PAE)
    assert nowhere.tables.readable.tolist() == [False]
    assert "outside RAM" in str(translate(little_memory(), 0x7000_0000, 0, PAE).fault)


def test_what_a_snapshot_did_not_capture_is_not_taken_for_a_broken_table(little_memory: MakeMemory) -> None:
    memory = little_memory()
    memory.write(0x1000 + 4 * 768, struct.pack("<I", 0x2063))
    snapshot = Snapshot(memory)
    snapshot.keep(0x1000, PAGE)
    snapshot.seal()
    with pytest.raises(MemoryFault, match="not captured"):
        walk(snapshot, 0x1000, NON_PAE)
    with pytest.raises(MemoryFault, match="not captured"):
        translate(snapshot, 0x1000, 0xC000_0000, NON_PAE)
    assert snapshot.ranges == (Range(0, 1 << 20),)

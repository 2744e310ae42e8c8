"""The model's walker, against tables written by hand from the processor's manual."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from kvmtools.errors import MemoryFault
from kvmtools.model.paging import Fault, PagingForm, non_pae, pae, translate, walk
from kvmtools.records import Mapping

REASONS = {
    "not present": "not present",
    "reserved": "reserved bits",
    "no RAM": "the table is not in RAM",
}


def form_of(vector: Any) -> PagingForm:
    if vector.pae:
        return pae(nx=vector.nx, physical_bits=vector.physical_bits)
    return non_pae(pse=vector.pse, physical_bits=vector.physical_bits)


def seen(leaf: Any) -> tuple[int, int, int, bool, bool, bool]:
    return leaf.virtual, leaf.physical, leaf.size, leaf.writable, leaf.user, leaf.executable


def test_walk_finds_the_leaves(paging_vector: Any) -> None:
    found = list(walk(paging_vector.read, paging_vector.cr3, form_of(paging_vector)))
    assert len(found) == paging_vector.leaf_count
    assert [leaf.virtual for leaf in found] == sorted(leaf.virtual for leaf in found)
    assert {seen(leaf) for leaf in paging_vector.leaves} <= {seen(leaf) for leaf in found}


def test_walk_reports_what_the_processor_refuses(paging_vector: Any) -> None:
    faults: list[Fault] = []
    list(walk(paging_vector.read, paging_vector.cr3, form_of(paging_vector), faults=faults))
    expected = [stop for stop in paging_vector.stops if stop.reason != "not present"]
    assert len(faults) == len(expected)
    for fault, stop in zip(faults, sorted(expected, key=lambda stop: stop.virtual), strict=True):
        assert (fault.virtual, fault.level, fault.index) == (stop.virtual, stop.level, stop.index)
        assert fault.reason.startswith(REASONS[stop.reason])


def test_translate_agrees_with_every_line(paging_vector: Any) -> None:
    form = form_of(paging_vector)
    for leaf in paging_vector.leaves:
        for offset in (0, 1, leaf.size - 1):
            answer = translate(paging_vector.read, paging_vector.cr3, leaf.virtual + offset, form)
            assert isinstance(answer, Mapping)
            assert seen(answer) == seen(leaf)
    for stop in paging_vector.stops:
        answer = translate(paging_vector.read, paging_vector.cr3, stop.virtual, form)
        assert isinstance(answer, Fault)
        assert (answer.level, answer.index) == (stop.level, stop.index)
        assert answer.reason.startswith(REASONS[stop.reason])
        assert str(answer).endswith(answer.reason)


def test_walk_and_translate_are_one_account(paging_vector: Any) -> None:
    form = form_of(paging_vector)
    for leaf in walk(paging_vector.read, paging_vector.cr3, form):
        assert translate(paging_vector.read, paging_vector.cr3, leaf.virtual, form) == leaf
        (raw,) = struct.unpack(
            f"<{form.entry}",
            paging_vector.read(leaf.table + leaf.index * form.entry_size, form.entry_size),
        )
        assert raw == leaf.entry


def test_a_window_sees_only_what_touches_it(paging_vector: Any) -> None:
    form = form_of(paging_vector)
    everything = list(walk(paging_vector.read, paging_vector.cr3, form))
    for start, end in (
        (0, 0xC0000000),
        (0xC0000000, 1 << 32),
        (0x00801000, 0x00803000),
        (0xC0002000, 0xC0002001),
    ):
        expected = [leaf for leaf in everything if leaf.virtual < end and start < leaf.virtual + leaf.size]
        assert list(walk(paging_vector.read, paging_vector.cr3, form, start, end)) == expected


@pytest.mark.parametrize("form", [non_pae(), pae()], ids=lambda form: form.name)
def test_the_levels_divide_the_whole_address(form: PagingForm) -> None:
    assert sum(level.bits for level in form.levels) == 20
    for upper, lower in zip(form.levels, form.levels[1:], strict=False):
        assert upper.shift == lower.shift + lower.bits
        assert upper.number == lower.number + 1
    assert form.levels[-1].span == 4096
    assert form.levels[-1].number == 1


def test_a_root_outside_ram_is_a_fault_of_the_first_level() -> None:
    def nothing(address: int, size: int) -> bytes:
        raise MemoryFault(address, "no RAM")

    faults: list[Fault] = []
    assert list(walk(nothing, 0x5000, pae(), faults=faults)) == []
    assert [(fault.level, fault.table, fault.entry) for fault in faults] == [("pgd", 0x5000, None)]
    answer = translate(nothing, 0x5000, 0xC0000000, pae())
    assert str(answer) == "0xc0000000: pgd[3] at 0x5000: the table is not in RAM"


def test_a_fault_says_where_and_what() -> None:
    page = struct.pack("<1024I", *([0x00200083] * 1024))
    answer = translate(lambda address, size: page[:size], 0x1000, 0xC0000000, non_pae())
    expected = "0xc0000000: pgd[768] at 0x1000 = 0x200083: reserved bits 0x200000 are set"
    assert str(answer) == expected

"""The model's walker, against tables written by hand from the processor's manual."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from kvmtools.errors import MemoryFault, UsageError
from kvmtools.model.paging.vectors import ExpectedLeaf, Vector
from kvmtools.model.paging.walk import (
    Fault,
    PagingForm,
    Step,
    form_of,
    long_mode,
    non_pae,
    pae,
    translate,
    walk,
)
from kvmtools.records import Configuration, Leaf

REASONS = {
    "not present": "not present",
    "reserved": "reserved bits",
    "no RAM": "the table is not in RAM",
    "no such address": "there is no such address",
}


def seen(leaf: ExpectedLeaf | Leaf) -> tuple[int, int, int, bool, bool, bool]:
    return leaf.virtual, leaf.physical, leaf.size, leaf.writable, leaf.user, leaf.executable


def test_walk_finds_the_leaves(any_vector: Vector) -> None:
    found = list(walk(any_vector.memory.read, any_vector.cr3, any_vector.form))
    assert len(found) == any_vector.leaf_count
    assert [leaf.virtual for leaf in found] == sorted(leaf.virtual for leaf in found)
    assert {seen(leaf) for leaf in any_vector.leaves} <= {seen(leaf) for leaf in found}


def test_walk_reports_what_the_processor_refuses(any_vector: Vector) -> None:
    faults: list[Fault] = []
    list(walk(any_vector.memory.read, any_vector.cr3, any_vector.form, faults=faults))
    expected = [stop for stop in any_vector.stops if stop.reason in ("reserved", "no RAM")]
    assert len(faults) == len(expected)
    for fault, stop in zip(faults, sorted(expected, key=lambda stop: stop.virtual), strict=True):
        assert (fault.virtual, fault.level, fault.index) == (stop.virtual, stop.level, stop.slot)
        assert fault.reason.startswith(REASONS[stop.reason])


def test_translate_agrees_with_every_line(any_vector: Vector) -> None:
    form = any_vector.form
    for leaf in any_vector.leaves:
        for offset in (0, 1, leaf.size - 1):
            answer = translate(any_vector.memory.read, any_vector.cr3, leaf.virtual + offset, form)
            assert isinstance(answer, Leaf)
            assert seen(answer) == seen(leaf)
    for stop in any_vector.stops:
        answer = translate(any_vector.memory.read, any_vector.cr3, stop.virtual, form)
        assert isinstance(answer, Fault)
        assert (answer.level, answer.index) == (stop.level, stop.slot)
        assert answer.reason.startswith(REASONS[stop.reason])
        assert str(answer).endswith(answer.reason)


def test_walk_and_translate_are_one_account(any_vector: Vector) -> None:
    form = any_vector.form
    for leaf in walk(any_vector.memory.read, any_vector.cr3, form):
        assert translate(any_vector.memory.read, any_vector.cr3, leaf.virtual, form) == leaf
        (raw,) = struct.unpack(
            f"<{form.entry}",
            any_vector.memory.read(leaf.table + leaf.index * form.entry_size, form.entry_size),
        )
        assert raw == leaf.entry


def test_a_window_sees_only_what_touches_it(any_vector: Vector) -> None:
    form = any_vector.form
    everything = list(walk(any_vector.memory.read, any_vector.cr3, form))
    for start, end in (
        (0, 0xC0000000),
        (0xC0000000, 1 << 32),
        (0x00801000, 0x00803000),
        (0xC0002000, 0xC0002001),
    ):
        expected = [leaf for leaf in everything if leaf.virtual < end and start < leaf.virtual + leaf.size]
        assert list(walk(any_vector.memory.read, any_vector.cr3, form, start, end)) == expected


@pytest.mark.parametrize(
    ("form", "address_bits"),
    [(non_pae(), 32), (pae(), 32), (long_mode(), 48)],
    ids=["non-PAE", "PAE", "4-level"],
)
def test_the_levels_divide_the_whole_address(form: PagingForm, address_bits: int) -> None:
    assert sum(level.bits for level in form.levels) == address_bits - 12
    for upper, lower in zip(form.levels, form.levels[1:], strict=False):
        assert upper.shift == lower.shift + lower.bits
        assert upper.number == lower.number + 1
    assert form.levels[-1].span == 4096
    assert form.levels[-1].number == 1
    # SDM 3A, table 4-1: all addresses that there are, 32 bits of them or 48.
    assert sum(window.end - window.start for window in form.windows) == 1 << address_bits


@pytest.mark.parametrize(
    ("form", "sizes", "names", "size"),
    [
        # SDM 3A, table 4-1: page sizes; figures 4-2 to 4-10: which structures; 4.3: entries of 4 bytes, else of 8.
        (non_pae(), [4 << 20, 4 << 10], "pgd pte", 4),
        (non_pae(pse=False), [4 << 10], "pgd pte", 4),
        (pae(), [2 << 20, 4 << 10], "pgd pmd pte", 8),
        (long_mode(), [1 << 30, 2 << 20, 4 << 10], "pgd pud pmd pte", 8),
        (long_mode(gib_pages=False), [2 << 20, 4 << 10], "pgd pud pmd pte", 8),
    ],
)
def test_a_form_knows_its_pages_and_tables(form: PagingForm, sizes: list[int], names: str, size: int) -> None:
    assert list(form.leaf_levels) == sizes
    assert [level.span for level in form.leaf_levels.values()] == sizes
    assert [level.name for level in form.levels] == names.split()
    assert form.entry_size == size
    assert (form.nx, form.pointer_registers) == (size == 8, form.name == "PAE")


@pytest.mark.parametrize(
    ("form", "there", "not_there"),
    [
        (non_pae(), (0, 0xFFFF_FFFF), (-1, 1 << 32)),
        (pae(), (0, 0xFFFF_FFFF), (-1, 1 << 32)),
        # SDM 1, 3.3.7.1: canonical means that bits 63:48 repeat bit 47.
        (
            long_mode(),
            (0, 0x7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF),
            (-1, 0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 64),
        ),
    ],
    ids=["non-PAE", "PAE", "4-level"],
)
def test_which_addresses_there_are(
    form: PagingForm, there: tuple[int, ...], not_there: tuple[int, ...]
) -> None:
    assert all(form.has(address) for address in there)
    assert not any(form.has(address) for address in not_there)
    for address in not_there:
        answer = translate(lambda address, size: bytes(size), 0x3018, address, form)
        assert answer == Fault(
            address, "pgd", 0x3018 & form.root, 0, None, "there is no such address in this form"
        )


@pytest.mark.parametrize(
    ("make", "without", "bits"),
    [(pae, "nx", 1 << 63), (long_mode, "nx", 1 << 63), (long_mode, "gib_pages", 1 << 7)],
)
def test_what_is_switched_off_is_reserved(make: Callable[..., PagingForm], without: str, bits: int) -> None:
    on, off = make(), make(**{without: False})
    assert on == make(**{without: True})
    for upper, lower in zip(on.levels, off.levels, strict=True):
        changed = (upper.reserved ^ lower.reserved) | (upper.leaf_reserved ^ lower.leaf_reserved)
        assert changed in (0, bits)
    assert off.nx is (without != "nx")


def test_the_widest_processor_is_the_default() -> None:
    # SDM 3A, 4.1.4: MAXPHYADDR is at most 52, and 32-bit paging without PSE-36 knows 32.
    assert pae() == pae(nx=True, physical_bits=52)
    assert long_mode() == long_mode(nx=True, physical_bits=52, gib_pages=True)
    assert non_pae() == non_pae(pse=True, physical_bits=32)


@pytest.mark.parametrize("bits", [31, 53])
def test_no_processor_has_so_many_address_bits(configure: Callable[..., Configuration], bits: int) -> None:
    with pytest.raises(UsageError, match=f"no x86 processor has {bits} physical address bits"):
        form_of(configure(physical_bits=bits))


@pytest.mark.parametrize("bits", [32, 36, 52])
def test_the_form_is_that_of_the_configuration(configure: Callable[..., Configuration], bits: int) -> None:
    assert form_of(configure(pae=True, nx=False, physical_bits=bits)) == pae(nx=False, physical_bits=bits)
    assert form_of(configure(pae=True, physical_bits=bits)) == pae(physical_bits=bits)
    assert form_of(configure(pae=False, pse=False, physical_bits=bits)) == non_pae(
        pse=False, physical_bits=bits
    )
    assert form_of(configure(pae=False, physical_bits=bits)) == non_pae(physical_bits=bits)


def test_a_walk_of_all_addresses_needs_no_bounds() -> None:
    # Every table the same: in long mode that would be 2^36 leaves, so look at the two ends alone.
    page = struct.pack("<512Q", *([0x1067] * 512))

    def read(address: int, size: int) -> bytes:
        return page[:size]

    last = list(walk(read, 0x1000, long_mode(), (1 << 64) - 8192))
    assert [leaf.virtual for leaf in last] == [(1 << 64) - 8192, (1 << 64) - 4096]
    first = next(walk(read, 0x1000, long_mode()))
    assert first.virtual == 0
    # Across the gap between the canonical halves there is nothing.
    edge = list(walk(read, 0x1000, long_mode(), 0x7FFF_FFFF_E000, 0xFFFF_8000_0000_2000))
    assert [leaf.virtual for leaf in edge] == [
        0x7FFF_FFFF_E000,
        0x7FFF_FFFF_F000,
        0xFFFF_8000_0000_0000,
        0xFFFF_8000_0000_1000,
    ]
    assert list(walk(read, 0x1000, long_mode(), 0x8000_0000_0000, 0xFFFF_8000_0000_0000)) == []
    assert list(walk(read, 0x1000, pae(), 0x5000, 0x5000)) == []


def test_steps_tell_the_way() -> None:
    tables = {
        0x1018: 0x2001,  # pgd[3]: 0xc0000000 >> 30
        0x2008: 0x3063,  # pmd[1]: 0x00200000 >> 21
        0x3010: 0x7063,  # pte[2]: 0x00002000 >> 12
    }

    def read(address: int, size: int) -> bytes:
        return struct.pack("<Q", tables.get(address, 0))[:size]

    steps: list[Step] = []
    form = pae()
    assert isinstance(translate(read, 0x1000, 0xC0202ABC, form, steps=steps), Leaf)
    pgd, pmd, pte = form.levels
    assert steps == [
        Step(pgd, 0x1000, 3, 0x1018, 0x2001),
        Step(pmd, 0x2000, 1, 0x2008, 0x3063),
        Step(pte, 0x3000, 2, 0x3010, 0x7063),
    ]
    steps.clear()
    assert isinstance(translate(read, 0x1000, 0xC0400000, form, steps=steps), Fault)
    assert steps == [Step(pgd, 0x1000, 3, 0x1018, 0x2001), Step(pmd, 0x2000, 2, 0x2010, 0)]


@pytest.mark.parametrize(
    ("depth", "entry", "names"),
    [
        # Names as in arch/x86/include/asm/pgtable_types.h (6.1); what a bit means depends on the level.
        (2, 0x8000000000000163, "P RW A D G NX"),
        (2, 0xFFF, "P RW US PWT PCD A D PAT G SW1 SW2 SW3"),
        (2, 0x1001, "P"),
        (1, 0x80000000000001E3, "P RW A D PSE G NX"),
        (1, 0x1FFF, "P RW US PWT PCD A D PSE G SW1 SW2 SW3 PAT"),
        (1, 0x67, "P RW US A"),
        (1, 0x1F7F, "P RW US PWT PCD A SW1 SW2 SW3"),
        (0, 0xE01, "P SW1 SW2 SW3"),
        (0, 0x19, "P PWT PCD"),
    ],
)
def test_the_names_of_flags(depth: int, entry: int, names: str) -> None:
    assert " ".join(pae().levels[depth].flags(entry)) == names


def test_a_root_outside_ram_is_a_fault_of_the_first_level() -> None:
    def nothing(address: int, size: int) -> bytes:
        raise MemoryFault(address, "no RAM")

    faults: list[Fault] = []
    assert list(walk(nothing, 0x5000, pae(), faults=faults)) == []
    assert [(fault.level, fault.table, fault.entry) for fault in faults] == [("pgd", 0x5000, None)]
    answer = translate(nothing, 0x5000, 0xC0000000, pae())
    assert str(answer) == "0xc0000000: pgd[3] at 0x5000: the table is not in RAM"


def test_a_root_outside_ram_is_a_fault_of_either_half() -> None:
    def nothing(address: int, size: int) -> bytes:
        raise MemoryFault(address, "no RAM")

    faults: list[Fault] = []
    assert list(walk(nothing, 0x5000, long_mode(), faults=faults)) == []
    assert [(fault.virtual, fault.index) for fault in faults] == [(0, 0), (0xFFFF_8000_0000_0000, 256)]


def test_an_empty_window_sees_nothing_of_a_large_leaf() -> None:
    page = struct.pack("<1024I", *([0x00000083] * 1024))
    form = non_pae()

    def seen_in(start: int, end: int) -> int:
        return len(list(walk(lambda address, size: page[:size], 0x1000, form, start, end)))

    assert [seen_in(0x1000, end) for end in (0xFFF, 0x1000, 0x1001, 0x400000, 0x400001)] == [0, 0, 1, 1, 2]


def test_a_fault_says_where_and_what() -> None:
    page = struct.pack("<1024I", *([0x00200083] * 1024))
    answer = translate(lambda address, size: page[:size], 0x1000, 0xC0000000, non_pae())
    expected = "0xc0000000: pgd[768] at 0x1000 = 0x200083: reserved bits 0x200000 are set"
    assert str(answer) == expected

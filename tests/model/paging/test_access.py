"""Accesses: what a processor reads, refuses and marks, by the vectors and by the manual's own cases."""

from __future__ import annotations

import struct

import pytest

from kvmtools.errors import UsageError
from kvmtools.model.paging.access import (
    LINUX,
    PAT_LINUX,
    PAT_POWER_ON,
    Access,
    AccessFault,
    Control,
    PointerRegisters,
    access,
    load_cr3,
    memory_type,
)
from kvmtools.model.paging.physical import Physical
from kvmtools.model.paging.vectors import ExpectedAccess, Meets, Raises, Vector
from kvmtools.model.paging.walk import PagingForm, long_mode, non_pae, pae
from kvmtools.records import Range

KINDS = {"read": {}, "write": {"write": True}, "fetch": {"fetch": True}}
ROOT = 0x1000


def attempt(vector: Vector, line: ExpectedAccess) -> Meets | Raises:
    answer = access(
        vector.memory,
        vector.cr3,
        line.virtual,
        vector.form,
        user=line.user,
        control=line.control,
        **KINDS[line.what],
    )
    if isinstance(answer, Access):
        return Meets(answer.physical, answer.memory_type, answer.is_global)
    return Raises(answer.exception, answer.error_code, answer.level, answer.index)


def test_every_line_of_the_vectors_comes_true(any_vector: Vector) -> None:
    size = any_vector.form.entry_size
    for line in any_vector.script:
        if isinstance(line, ExpectedAccess):
            assert attempt(any_vector, line) == line.outcome, line
        else:
            raw = any_vector.memory.read(line.table + line.slot * size, size)
            assert int.from_bytes(raw, "little") == line.entry, line


def test_every_leaf_can_be_read_by_whom_it_belongs_to(any_vector: Vector) -> None:
    for leaf in any_vector.leaves:
        middle = leaf.virtual + leaf.size // 2 + 1
        answer = access(any_vector.memory, any_vector.cr3, middle, any_vector.form, user=leaf.user)
        assert isinstance(answer, Access)
        assert answer.physical == leaf.physical + leaf.size // 2 + 1


def test_what_stops_a_walk_stops_an_access(any_vector: Vector) -> None:
    exceptions = {"not present": "#PF", "reserved": "#PF", "no RAM": "", "no such address": "#GP"}
    codes = {"not present": 0, "reserved": 9, "no RAM": 0, "no such address": 0}
    for stop in any_vector.stops:
        answer = access(any_vector.memory, any_vector.cr3, stop.virtual, any_vector.form)
        assert isinstance(answer, AccessFault)
        assert (answer.virtual, answer.level, answer.index) == (stop.virtual, stop.level, stop.slot)
        assert (answer.exception, answer.error_code) == (exceptions[stop.reason], codes[stop.reason])


def tables(form: PagingForm, entries: dict[int, int]) -> Physical:
    """Entries by their physical addresses, in three pages of RAM."""
    memory = Physical((Range(0x1000, 0x4000),))
    for address, entry in entries.items():
        memory.write(address, struct.pack(f"<{form.entry}", entry))
    return memory


def test_linux_runs_with_wp_and_global_pages_and_its_own_pat() -> None:
    assert Control() == LINUX == Control(True, False, False, False, True, 0x0407050600070106)


def test_the_pat_after_reset_and_linuxs() -> None:
    # SDM 3A, table 11-12; arch/x86/mm/pat/memtype.c (6.1) prints its own at boot in these words.
    assert " ".join(memory_type(PAT_POWER_ON, index) for index in range(8)) == "WB WT UC- UC WB WT UC- UC"
    assert " ".join(memory_type(PAT_LINUX, index) for index in range(8)) == "WB WC UC- UC WB WP UC- WT"


@pytest.mark.parametrize("encoded", [2, 3, 8, 0x80])
def test_wrmsr_refuses_other_memory_types(encoded: int) -> None:
    # SDM 3A, table 11-10: 2, 3 and everything from 8 on are reserved.
    pat = 0x0606060606060606 ^ (6 ^ encoded) << 24
    assert memory_type(pat, 2) == "WB"
    with pytest.raises(
        UsageError, match=rf"0x06060606{encoded:02x}060606: there is no memory type {encoded} \(byte 3\)"
    ):
        memory_type(pat, 3)


def test_nothing_writes_and_fetches_at_once() -> None:
    with pytest.raises(UsageError, match="either writes or fetches"):
        access(Physical(), ROOT, 0, non_pae(), write=True, fetch=True)


def test_an_access_tells_all_it_met() -> None:
    form = non_pae()
    memory = tables(form, {0x1C00: 0x2003, 0x2004: 0x700B})
    met = access(memory, ROOT, 0xC0001234, form)
    assert isinstance(met, Access)
    assert met.leaf.entry == 0x700B
    assert (met.leaf.virtual, met.leaf.physical, met.leaf.level) == (0xC0001000, 0x7000, 1)
    assert [(step.level.name, step.address, step.entry) for step in met.steps] == [
        ("pgd", 0x1C00, 0x2003),
        ("pte", 0x2004, 0x700B),
    ]
    assert met._replace(leaf=None, steps=()) == (0x7234, None, (), 2, 1, "WC", False)  # type: ignore[arg-type]


def test_a_fault_in_words() -> None:
    form = non_pae()
    memory = tables(form, {0x1C00: 0x2003, 0x2004: 0x7001})
    said = {
        "pte[1] at 0x2000 = 0x7001: it is read-only": {"write": True},
        "pgd[768] at 0x1000 = 0x2023: it is the supervisor's": {"user": True},
    }
    for words, how in said.items():
        assert str(access(memory, ROOT, 0xC0001234, form, **how)) == f"0xc0001234: {words}"
    assert str(access(memory, ROOT, 0xC0002000, form)) == "0xc0002000: pte[2] at 0x2000 = 0x0: not present"
    form = pae()
    memory = tables(form, {0x1000: 0x2001, 0x2000: 0x8000000000200087})
    for words, how, control in (
        ("it is not executable", {"fetch": True}, LINUX),
        ("SMAP: the supervisor touches no user's page", {"write": True}, Control(smap=True)),
    ):
        fault = access(memory, ROOT, 0x1000, form, control=control, **how)
        assert str(fault) == f"0x00001000: pmd[0] at 0x2000 = 0x8000000000200087: {words}"
    memory = tables(form, {0x1000: 0x2001, 0x2000: 0x200087})
    fault = access(memory, ROOT, 0x1000, form, fetch=True, control=Control(smep=True))
    assert str(fault).endswith("pmd[0] at 0x2000 = 0x200087: SMEP: the supervisor executes no user's page")


def test_a_table_that_maps_itself_is_marked_once() -> None:
    # The same entry leads to a table and is the leaf: A and D are set, and nothing is lost.
    form = non_pae()
    memory = tables(form, {0x1FFC: 0x1003})
    met = access(memory, ROOT, 0xFFFFFFFC, form, write=True)
    assert isinstance(met, Access)
    assert met.physical == 0x1FFC
    assert memory.read(0x1FFC, 4) == struct.pack("<I", 0x1063)


def test_a_marked_entry_is_not_written_again() -> None:
    form = non_pae()
    memory = tables(form, {0x1000: 0x2023, 0x2000: 0x7023})

    class ReadOnly(Physical):
        def write(self, address: int, data: bytes) -> None:
            raise AssertionError(f"{address:#x} was written")

    silent = ReadOnly(memory.ranges)
    silent._frames.update(memory._frames)
    assert isinstance(access(silent, ROOT, 0, form), Access)
    with pytest.raises(AssertionError, match="0x2000 was written"):
        access(silent, ROOT, 0, form, write=True)


# The registers that hold PDPTEs (SDM 3A, 4.4.1)


@pytest.mark.parametrize("form", [non_pae(), long_mode()], ids=lambda form: form.name)
def test_without_pae_cr3_alone_is_loaded(form: PagingForm) -> None:
    def nothing(address: int, size: int) -> bytes:
        raise AssertionError("MOV CR3 read memory")

    assert load_cr3(nothing, 0x1018, form) == 0x1000


def test_with_pae_mov_cr3_reads_the_pdptes_once() -> None:
    form = pae()
    memory = tables(form, {0x1FE0: 0x2001, 0x1FF8: 0x3001, 0x2000: 0x4000E3, 0x3008: 0x8000E1})
    root = load_cr3(memory.read, 0x1FF8, form)
    assert root == PointerRegisters(0x1FE0, (0x2001, 0, 0, 0x3001))
    # Memory changes: FACTS B.2, an Intel processor sees neither before CR3 is loaded again.
    memory.write(0x1FE0, bytes(8))
    memory.write(0x1FE8, struct.pack("<Q", 0x2001))
    met = access(memory, root, 0x5678, form)
    assert isinstance(met, Access)
    assert (met.physical, met.references, len(met.steps)) == (0x405678, 1, 2)
    assert (met.steps[0].table, met.steps[0].index, met.steps[0].address) == (0x1FE0, 0, 0x1FE0)
    missing = access(memory, root, 0x40000000, form, write=True)
    assert str(missing) == "0x40000000: pgd[1] at 0x1fe0 = 0x0: not present"
    assert isinstance(missing, AccessFault)
    assert (missing.exception, missing.error_code) == ("#PF", 2)
    high = access(memory, root, 0xC0200010, form)
    assert isinstance(high, Access)
    assert high.physical == 0x800010
    assert (high.steps[0].index, high.steps[0].address) == (3, 0x1FF8)
    refused = access(memory, root, 0xC0200000, form, write=True)
    assert isinstance(refused, AccessFault)
    assert (refused.level, refused.index, refused.error_code) == ("pmd", 1, 3)
    # A processor that reads PDPTEs from memory sees both at once; so does Intel's, once CR3 is loaded.
    for fresh in (0x1FE0, load_cr3(memory.read, 0x1FE0, form)):
        assert not isinstance(fresh, AccessFault)
        assert isinstance(access(memory, fresh, 0, form), AccessFault)
        assert isinstance(access(memory, fresh, 0x40000000, form), Access)
    from_memory = access(memory, 0x1FE0, 0x40000000, form)
    assert isinstance(from_memory, Access)
    assert from_memory.references == 2


def test_beyond_32_bits_the_registers_lead_nowhere_either() -> None:
    form = pae()
    memory = tables(form, {0x1000: 0x2001, 0x2000: 0x4000E3})
    root = load_cr3(memory.read, 0x1000, form)
    assert isinstance(root, PointerRegisters)
    for virtual in (1 << 32, (1 << 32) + 0x40000000):
        fault = access(memory, root, virtual, form)
        assert isinstance(fault, AccessFault)
        assert (fault.exception, fault.error_code) == ("#GP", 0)


@pytest.mark.parametrize("bit", [1, 2, 5, 6, 7, 8, 36, 51, 52, 62, 63])
def test_a_reserved_bit_of_a_pdpte_is_a_general_protection(bit: int) -> None:
    # SDM 3A, table 4-8: bits 2:1, 8:5 and 63:MAXPHYADDR.
    form = pae(physical_bits=36)
    memory = tables(form, {0x1000: 0x2001, 0x1010: 0x2001 | 1 << bit})
    fault = load_cr3(memory.read, 0x1000, form)
    assert isinstance(fault, AccessFault)
    assert (fault.exception, fault.error_code, fault.virtual) == ("#GP", 0, 0x80000000)
    assert (fault.level, fault.table, fault.index, fault.entry) == ("pgd", 0x1000, 2, 0x2001 | 1 << bit)
    assert fault.reason == f"CR3 is not loaded: reserved bits {1 << bit:#x} are set"
    # Not present, it may hold anything.
    memory.write(0x1010, struct.pack("<Q", 1 << bit))
    assert isinstance(load_cr3(memory.read, 0x1000, form), PointerRegisters)


@pytest.mark.parametrize("bit", [3, 4, 9, 10, 11, 12, 35])
def test_the_other_bits_of_a_pdpte_are_not(bit: int) -> None:
    form = pae(physical_bits=36)
    memory = tables(form, {0x1018: 1 | 1 << bit})
    assert load_cr3(memory.read, 0x1000, form) == PointerRegisters(0x1000, (0, 0, 0, 1 | 1 << bit))


def test_pdptes_that_are_not_in_ram() -> None:
    # It is no exception of the processor's.
    fault = AccessFault(0, "pgd", 0x1000, 0, None, "the table is not in RAM", "", 0)
    assert load_cr3(Physical((Range(0, 0x1000),)).read, 0x1000, pae()) == fault

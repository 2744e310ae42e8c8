"""Breaks of pkmap's counts, page table, cursor and wait queue, and of the pointer to kmap_local's entries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from breaks.patient import Break, Patient, entry_place, page_word, variable
from kvmtools.records import PAGE_SIZE

RW, WRITE_THROUGH = 1 << 1, 1 << 3


def slot(patient: Patient, wanted: Callable[[int], bool]) -> int:
    """The first slot whose count is as wanted."""
    return next(number for number, count in enumerate(patient.healthy.pkmap.counts.tolist()) if wanted(count))


def entry_of(patient: Patient, number: int) -> int:
    """Virtual address of a slot's PTE."""
    return patient.read(variable(patient, "pkmap_page_table")) + number * patient.healthy.entry_size


def _set_count(patient: Patient, number: int, count: int) -> str:
    patient.write(variable(patient, "pkmap_count") + 4 * number, count)
    return f"slot {number}"


def _change_pte(patient: Patient, number: int, change: Callable[[int], int]) -> str:
    place, size = entry_of(patient, number), patient.healthy.entry_size
    patient.write(place, change(patient.read(place, size)), size)
    return f"slot {number}"


def counted_below_zero(patient: Patient) -> str:
    return _set_count(patient, slot(patient, lambda count: count == 0), -1)


def used_slot_counted_below_zero(patient: Patient) -> str:
    return _set_count(patient, slot(patient, lambda count: count >= 2), -1)


def empty_slot_counted(patient: Patient) -> str:
    return _set_count(patient, slot(patient, lambda count: count == 0), 2)


def used_slot_forgotten(patient: Patient) -> str:
    return _set_count(patient, slot(patient, lambda count: count >= 2), 0)


def pte_cleared(patient: Patient) -> str:
    return _change_pte(patient, slot(patient, lambda count: count >= 2), lambda pte: 0)


def unused_pte_cleared(patient: Patient) -> str:
    return _change_pte(patient, slot(patient, lambda count: count == 1), lambda pte: 0)


def pte_made_read_only(patient: Patient) -> str:
    return _change_pte(patient, slot(patient, lambda count: count >= 2), lambda pte: pte & ~RW)


def pte_made_write_through(patient: Patient) -> str:
    return _change_pte(patient, slot(patient, lambda count: count == 1), lambda pte: pte | WRITE_THROUGH)


def pte_leads_to_lowmem(patient: Patient) -> str:
    number = slot(patient, lambda count: count >= 2)
    pfn = int(patient.healthy.pkmap_pfns[number])
    return _change_pte(patient, number, lambda pte: pte - (pfn - 0x1234) * PAGE_SIZE)


def two_slots_one_page(patient: Patient) -> str:
    pkmap = patient.healthy.pkmap
    first, second = np.flatnonzero(pkmap.counts >= 2)[:2].tolist()
    _change_pte(patient, second, lambda pte: int(pkmap.ptes[first]))
    return f"slot {second}"


def cursor_out_of_range(patient: Patient) -> str:
    patient.write(variable(patient, "last_pkmap_nr"), len(patient.healthy.pkmap.counts))
    return "cursor"


def waiter_forgotten(patient: Patient) -> str:
    head = variable(patient, "pkmap_map_wait") + patient.gdb.offset("struct wait_queue_head", "head")
    patient.write(head, head + 64)
    return "pkmap wait queue"


def mapped_page_freed(patient: Patient) -> str:
    number = slot(patient, lambda count: count >= 2)
    patient.write(page_word(patient, int(patient.healthy.pkmap_pfns[number]), "_refcount"), 0)
    return f"slot {number}"


def process_hooks_another_table(patient: Patient) -> str:
    healthy = patient.healthy
    space, base, size = healthy.processes[0], healthy.area.base, healthy.entry_size
    place = entry_place(patient, space.root, base, level=2)
    patient.write(place, patient.read(place, size) + PAGE_SIZE, size)
    return f"pid {space.pid} virtual {base:#x}"


def first_entry_moved(patient: Patient) -> str:
    """To the slot after it; the last has none then that is its own."""
    name = patient.healthy.vmlinux.which_symbol("__kmap_pte", "kmap_pte")
    pointer, size = variable(patient, name), patient.healthy.entry_size
    patient.write(pointer, patient.read(pointer) - size)
    first = patient.gdb("FIX_KMAP_BEGIN")
    return f"virtual {0xFFFF_F000 - first * PAGE_SIZE:#x}"


BREAKS = (
    Break("pkmap.count-not-negative", counted_below_zero),
    Break("pkmap.count-not-negative", used_slot_counted_below_zero),
    Break("pkmap.pte-matches-count", empty_slot_counted),
    Break("pkmap.pte-matches-count", used_slot_forgotten),
    Break("pkmap.pte-matches-count", pte_cleared),
    Break("pkmap.pte-matches-count", unused_pte_cleared),
    Break("pkmap.pte-flags", pte_made_read_only),
    Break("pkmap.pte-flags", pte_made_write_through),
    Break("pkmap.pte-in-highmem", pte_leads_to_lowmem),
    Break("pkmap.pages-distinct", two_slots_one_page),
    Break("pkmap.cursor-in-range", cursor_out_of_range),
    Break("pkmap.waiters", waiter_forgotten),
    Break("pkmap.mapped-page-in-use", mapped_page_freed),
    Break("pkmap.page-table", process_hooks_another_table),
    Break("kmap-local.entries", first_entry_moved, numa=True),
)

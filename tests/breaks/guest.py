"""Breaks after which a part of the guest cannot be read, or the guest cannot be."""

from __future__ import annotations

from breaks.patient import Break, Patient, variable

NOWHERE = 0x100


def _leader(patient: Patient) -> tuple[int, int]:
    """The ``struct task_struct`` and the ``struct mm_struct`` of init."""
    init = patient.healthy.observed.processes[0]
    return init.task, init.mm


def task_list_loops(patient: Patient) -> str:
    task, _mm = _leader(patient)
    link = task + patient.gdb.offset("struct task_struct", "tasks")
    patient.write(link, link)
    return "task list"


def page_tables_nowhere(patient: Patient) -> str:
    _task, mm = _leader(patient)
    patient.write(mm + patient.gdb.offset("struct mm_struct", "pgd"), NOWHERE)
    return "pid 1"


def pkmap_pointer_nowhere(patient: Patient) -> str:
    patient.write(variable(patient, "pkmap_page_table"), NOWHERE)
    return "pkmap"


def no_room_for_lowmem(patient: Patient) -> str:
    """The command line asks for more vmalloc area than there are addresses above ``PAGE_OFFSET``."""
    words = b"vmalloc=2000M "
    line = patient.read(variable(patient, "saved_command_line"))
    patient.write(line, int.from_bytes(words, "little"), len(words))
    return "configuration"


BREAKS = (
    Break("guest.readable", task_list_loops),
    Break("guest.readable", page_tables_nowhere),
    Break("guest.readable", pkmap_pointer_nowhere),
    Break("guest.possible", no_room_for_lowmem),
)

"""What a break needs of the guest that it breaks.

A break chooses what to break among what the observer has seen, but where that lies it has from gdb and from the page
tables themselves: an observer that looks in the wrong place then misses what was broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gdb_facts import GdbFacts

from kvmtools.compare.case import Case
from kvmtools.records import PAGE_SIZE

Subject = str
LARGE = 1 << 7


class Patient(Protocol):
    """A guest whose memory can be written."""

    healthy: Case
    """What was there before anything was broken."""
    gdb: GdbFacts
    """What gdb says of the guest's vmlinux."""

    def read(self, virtual: int, size: int = 4) -> int:
        """An integer at a linear-map address."""

    def write(self, virtual: int, value: int, size: int = 4) -> None:
        """Overwrite an integer at a linear-map address."""


@dataclass(frozen=True)
class Break:
    """``do`` breaks what ``rule`` is meant to find; ``pae``, ``nopae`` and ``numa`` say on which guests it can."""

    rule: str
    do: Callable[[Patient], Subject]
    pae: bool = True
    nopae: bool = True
    numa: bool = False

    def __str__(self) -> str:
        return f"{self.rule}-{self.do.__name__}"


def virtual(patient: Patient, physical: int) -> int:
    """Linear-map address of a lowmem structure."""
    return int(physical) + patient.healthy.page_offset


def variable(patient: Patient, symbol: str) -> int:
    """Address of a variable of the guest's kernel, or of an element of one."""
    return patient.gdb.address(symbol) + patient.healthy.observed.kernel.slide


def entry_place(patient: Patient, root: int, address: int, level: int = 1) -> int:
    """Linear-map address of the entry that maps ``address``, or on the way there leads to ``level``.

    :param root: physical address of the top table
    :param level: 1 for a table's entry, 2 for a directory's; of a large page there is no other than 2
    """
    form, table = patient.healthy.prediction.form, root
    for step in form.levels:
        place = virtual(patient, table + (address >> step.shift) % (1 << step.bits) * form.entry_size)
        entry = patient.read(place, form.entry_size)
        if step.number == level or (step.number == 2 and entry & LARGE):
            return place
        table = entry & (1 << 36) - PAGE_SIZE
    raise AssertionError(f"the page tables have no level {level}")


def kernel_entry(patient: Patient, address: int, level: int = 1) -> int:
    """The same of the kernel's own page tables."""
    return entry_place(
        patient, variable(patient, "swapper_pg_dir") - patient.healthy.page_offset, address, level
    )


def change_entry(patient: Patient, address: int, change: Callable[[int], int]) -> str:
    """Change the entry of the leaf that maps a kernel address; returns the leaf as a finding names it."""
    place, size = kernel_entry(patient, address), patient.healthy.entry_size
    patient.write(place, change(patient.read(place, size)), size)
    leaf = patient.healthy.kernel_walk.mapping(patient.healthy.kernel_walk.rows([address])[0])
    return f"virtual {leaf.virtual:#x}"


def page_word(patient: Patient, pfn: int, member: str) -> int:
    """Virtual address of a member of the ``struct page`` of a pfn (FLATMEM)."""
    mem_map = patient.read(variable(patient, "mem_map"))
    return mem_map + int(pfn) * patient.gdb("sizeof(struct page)") + patient.gdb.offset("struct page", member)


def set_flag(patient: Patient, pfn: int, name: str, *, on: bool) -> None:
    """Set or clear a ``PG_...`` of a page."""
    address, bit = page_word(patient, pfn, "flags"), 1 << patient.gdb(name)
    flags = patient.read(address)
    patient.write(address, flags | bit if on else flags & ~bit)


def zone_word(patient: Patient, name: str, member: str) -> int:
    """Virtual address of a member of a ``struct zone`` of the only node."""
    zones = variable(patient, "contig_page_data") + patient.gdb.offset("struct pglist_data", "node_zones")
    zone = zones + patient.gdb(f"ZONE_{name}") * patient.gdb("sizeof(struct zone)")
    return zone + patient.gdb.offset("struct zone", member)

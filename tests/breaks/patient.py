"""What a break needs of the guest that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kvmtools.compare import Case

Subject = str


class Patient(Protocol):
    """A guest whose memory can be written."""

    healthy: Case
    """What was there before anything was broken."""

    def read(self, virtual: int, size: int = 4) -> int:
        """An integer at a linear-map address."""

    def write(self, virtual: int, value: int, size: int = 4) -> None:
        """Overwrite an integer at a linear-map address."""


@dataclass(frozen=True)
class Break:
    """``do`` breaks what ``rule`` is meant to find; ``pae`` and ``nopae`` say on which guests it can."""

    rule: str
    do: Callable[[Patient], Subject]
    pae: bool = True
    nopae: bool = True

    def __str__(self) -> str:
        return f"{self.rule}-{self.do.__name__}"


def virtual(patient: Patient, physical: int) -> int:
    """Linear-map address of a lowmem structure."""
    return int(physical) + patient.healthy.page_offset


def change_entry(patient: Patient, row: int, change: Callable[[int], int]) -> int:
    """Change the entry of a leaf of the kernel's walk; returns the leaf's virtual address."""
    walk, size = patient.healthy.kernel_walk, patient.healthy.entry_size
    place = virtual(patient, int(walk.table[row]) + int(walk.index[row]) * size)
    patient.write(place, change(int(walk.entry[row])), size)
    return int(walk.virtual[row])


def leaf_at(patient: Patient, address: int) -> int:
    """The row of the leaf that maps a kernel address."""
    return int(patient.healthy.kernel_walk.rows(np.array([address]))[0])


def page_word(patient: Patient, pfn: int, member: str) -> int:
    """Virtual address of a word of the ``struct page`` of a pfn."""
    memmap = patient.healthy.memmap
    return memmap.pfn_to_page(int(pfn)) + memmap.offsets[member]

"""What a report draws beside the verdict: a guest at one moment, as plain numbers and names.

Whoever asks a guest fills these records, whoever draws them needs no more than this module.  Addresses are in bytes,
ranges half-open, sizes of memory in pages of 4 KiB.  A part that could not be had is ``None``; ``missing`` says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvmtools.findings import Result
from kvmtools.show.drawing import Boundary

HOLE = "hole"
"""The state of a pfn that is no RAM of the guest's, beside those of :data:`PageMap.states`."""


@dataclass(frozen=True, slots=True)
class MappedStretch:
    """Neighbouring pages that the kernel's own page table maps with the same effective permissions."""

    start: int
    end: int
    page_size: int
    """Bytes of each page."""
    writable: bool
    executable: bool
    user: bool
    region: str


@dataclass(frozen=True, slots=True)
class SpaceMap:
    """The kernel's half: boundaries by the guest and by the model, and what is mapped there.

    Of a kernel that the model cannot predict, ``refusal`` says why.
    """

    start: int
    end: int
    boundaries: tuple[Boundary, ...]
    limits: tuple[Boundary, ...]
    mapped: tuple[MappedStretch, ...]
    era: str | None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class PkmapSlot:
    """One slot of pkmap; ``None`` is what cannot be told, a PTE that is not present has no pfn."""

    number: int
    count: int
    present: bool
    pte: int
    pfn: int | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class PkmapGrid:
    """Every slot, in order, and which one ``last_pkmap_nr`` names."""

    slots: tuple[PkmapSlot, ...]
    base: int | None
    cursor: int | None


@dataclass(frozen=True, slots=True)
class PageMap:
    """``mem_map`` from pfn 0 on in cells of ``cell_pages`` neighbouring pages (the last may have fewer).

    Neighbouring cells that are alike are one run: how many they are, and how many pages of *each* are in which of the
    ``states``, of which the last is :data:`HOLE`.
    """

    pages: int
    cell_pages: int
    states: tuple[str, ...]
    runs: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def cells(self) -> int:
        """How many there are."""
        return sum(number for number, _ in self.runs)


@dataclass(frozen=True, slots=True)
class ZoneFill:
    """A zone: where it lies, how full it is, and its free blocks by migratetype and order; pages, ``None`` unknown."""

    label: str
    title: str
    start_pfn: int | None
    end_pfn: int | None
    present: int | None
    managed: int | None
    free: int | None
    watermarks: dict[str, int] | None
    blocks: tuple[tuple[str, tuple[int, ...]], ...] | None
    """Number of blocks on the lists by order, a row for each migratetype that has one."""


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A process as the guest calls it."""

    pid: int
    comm: str


@dataclass(frozen=True, slots=True)
class Survey:
    """A verdict, and everything that was there to be judged."""

    result: Result
    name: str
    """Which guest, for a heading."""
    command_line: str = ""
    space: SpaceMap | None = None
    pkmap: PkmapGrid | None = None
    pages: PageMap | None = None
    zones: tuple[ZoneFill, ...] = ()
    processes: tuple[ProcessName, ...] = ()
    missing: tuple[str, ...] = field(default=())
    """Why some of it is not there."""

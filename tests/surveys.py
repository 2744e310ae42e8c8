"""Surveys to draw: of the recorded guests, healthy, broken and hostile, and of one as big as guests get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from breaks import buddy, layout, memmap, pkmap, zones
from hostile_result import result as hostile_result
from opened_kernel import recorded_session, session_of
from recorded_guest import RecordedGuest, load
from whole_memory import WholeMemory

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.findings import Finding, Outcome, Result, Status
from kvmtools.survey import HOLE, MappedStretch, PageMap, ProcessName, Survey

BREAKS: tuple[Callable[[RecordedGuest], object], ...] = (
    buddy.list_cut,
    buddy.block_inside_block,
    pkmap.used_slot_forgotten,
    pkmap.pte_made_read_only,
    memmap.hole_given_away,
    zones.page_no_longer_present,
    layout.fixmap_above_its_top,
    layout.max_mapnr_moved,
)
STATES = ("free", "per-cpu", "reserved", "slab", "table", "anonymous", "cache", "other", HOLE)


@cache
def healthy(name: str = "pae") -> Survey:
    """A recorded guest as it is."""
    return OpenKernel(recorded_session(name)).survey()


@cache
def broken() -> Survey:
    """A recorded guest with a fault of every kind that a drawing has a place for."""
    guest = load("pae")
    for do in BREAKS:
        do(guest)
    return OpenKernel(
        session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot)), "core broken")
    ).survey()


def hostile(text: str) -> Survey:
    """One in which everything that a guest may have a say in is ``text``."""
    survey = healthy()
    assert survey.space is not None
    assert survey.pkmap is not None
    first = replace(survey.space.mapped[0], region=text)
    return replace(
        survey,
        result=hostile_result(text),
        name=text,
        command_line=text,
        space=replace(survey.space, mapped=(first, *survey.space.mapped[1:]), refusal=text),
        processes=(ProcessName(1, text),),
        missing=(text,),
        pkmap=replace(survey.pkmap, slots=tuple(replace(slot, zone=text) for slot in survey.pkmap.slots)),
    )


def enormous() -> Survey:
    """16 GiB of which no two cells are alike, a hundred findings of every rule, and a page table in shreds."""
    survey = broken()
    assert survey.space is not None
    cell_pages = 256
    runs = tuple((1, _counts(number, cell_pages)) for number in range((16 << 30 >> 12) // cell_pages))
    found = tuple(
        Finding(f"pfn {pfn:#x}", "x" * 80, "y" * 80, rule="a.b", pfn=pfn, virtual=0xC000_0000 + pfn, raw=pfn)
        for pfn in range(0, 4 << 20, (4 << 20) // 100)
    )
    outcomes = tuple(
        Outcome(f"a.rule-{number}", "truth " * 10, "mm/page_alloc.c", Status.DISCREPANCY, found, 4 << 20)
        for number in range(49)
    )
    shreds = tuple(
        MappedStretch(at, at + 4096, 4096, bool(at & 8192), False, False, "vmalloc, ioremap, modules")
        for at in range(0xF800_0000, 0xF800_0000 + 8192 * 4096, 8192)
    )
    return replace(
        survey,
        result=Result(outcomes),
        pages=PageMap(4 << 20, cell_pages, STATES, runs),
        space=replace(survey.space, mapped=shreds),
    )


def _counts(number: int, whole: int) -> tuple[int, ...]:
    """``whole`` pages in all states, most of them in two, otherwise than in the cells around."""
    shares = [1 + (number * (state + 3)) % 5 for state in range(len(STATES))]
    most, many = number % len(STATES), (number * 5 + 3) % len(STATES)
    shares[many] += 60
    shares[most] += whole - sum(shares)
    return tuple(shares)

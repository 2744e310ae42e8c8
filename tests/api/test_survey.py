"""What a report draws is what the kernel answers when it is asked for each by itself."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from breaks.pkmap import pte_cleared
from lesser_kernel import names, without
from opened_kernel import recorded_session, session_of
from recorded_guest import load
from surveys import healthy
from whole_memory import WholeMemory

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.page_map import CELLS
from kvmtools.api.session import Session
from kvmtools.errors import SymbolsError
from kvmtools.findings import Result
from kvmtools.report.page import to_html
from kvmtools.survey import HOLE

GUESTS = pytest.mark.parametrize("name", ["pae", "nopae", "numa"])


@GUESTS
def test_the_verdict_is_that_of_check(name: str) -> None:
    assert healthy(name).result.outcomes == OpenKernel(recorded_session(name)).check().outcomes


@GUESTS
def test_the_address_space(name: str) -> None:
    kernel, space = OpenKernel(recorded_session(name)), healthy(name).space
    assert space is not None
    assert space.boundaries == kernel.layout().boundaries
    walk = kernel.walk(kernel.page_offset).walk
    assert sum(each.end - each.start for each in space.mapped) == int(walk.size.sum())
    for each in space.mapped:
        rows = (walk.virtual >= each.start) & (walk.virtual < each.end)
        assert set(walk.writable[rows].tolist()) == {each.writable}
        assert set(walk.executable[rows].tolist()) == {each.executable}
        assert set(walk.size[rows].tolist()) == {each.page_size}


@GUESTS
def test_the_slots(name: str) -> None:
    slots, grid = OpenKernel(recorded_session(name)).pkmap(), healthy(name).pkmap
    assert slots is not None
    assert grid is not None
    assert [slot.count for slot in grid.slots] == slots.area.counts.tolist()
    assert [slot.pte for slot in grid.slots] == slots.area.ptes.tolist()
    assert {slot.number: slot.pfn for slot in grid.slots if slot.pfn} == {
        used.slot: used.pfn for used in slots.used if used.pfn
    }
    assert (grid.base, grid.cursor) == (slots.area.base, slots.area.cursor)


@GUESTS
def test_every_page_is_in_one_cell(name: str) -> None:
    use, pages = OpenKernel(recorded_session(name)).memmap(), healthy(name).pages
    assert pages is not None
    assert CELLS // 2 < pages.cells <= CELLS
    assert pages.pages == use.memmap.length
    totals = dict.fromkeys(pages.states, 0)
    for number, counts in pages.runs:
        for state, count in zip(pages.states, counts, strict=True):
            totals[state] += number * count
    assert sum(totals.values()) == pages.pages
    hole = totals.pop(HOLE)
    reserved = totals.pop("reserved")
    assert totals == {state: count for state, count in use.total.items() if state != "reserved"}
    assert reserved + hole == use.total["reserved"] + int(np.count_nonzero(~use.memmap.valid))
    assert hole > 0  # 0xa0000 to 0xfffff is no RAM
    first = np.bincount(use.states[: pages.cell_pages], minlength=len(use.names))
    assert pages.runs[0][1][: len(use.names)] == tuple(first.tolist())


@GUESTS
def test_the_zones(name: str) -> None:
    kernel, survey = OpenKernel(recorded_session(name)), healthy(name)
    zones = [zone for zone in kernel.zones() if zone.present]
    assert [zone.label for zone in survey.zones] == [zone.place.label for zone in zones]
    for drawn, zone in zip(survey.zones, zones, strict=True):
        assert (drawn.free, drawn.managed) == (zone.free_pages, zone.managed)
        assert drawn.blocks is not None
        orders = [sum(counts[order] for _, counts in drawn.blocks) for order in range(len(zone.free_area))]
        assert orders == [area.blocks for area in zone.free_area]


def test_of_a_kernel_that_lacks_something_the_rest_is_there() -> None:
    guest = load("pae")
    guest.vmlinux._answers["symbol pkmap_count"] = None
    kernel = OpenKernel(session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot))))
    with pytest.raises(SymbolsError, match="pkmap_count"):
        kernel.pkmap()
    survey = kernel.survey()
    assert survey.pkmap is None
    assert any("pkmap_count" in reason for reason in survey.missing)
    assert survey.space is not None
    assert survey.pages is not None


def test_it_shows_the_moment_that_was_judged() -> None:
    guest = load("pae")
    number = int(pte_cleared(guest).removeprefix("slot "))
    survey = OpenKernel(session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot)))).survey(
        only=["pkmap"]
    )
    assert survey.pkmap is not None
    assert survey.pkmap.slots[number].pte == 0
    assert [finding.subject for finding in survey.result.findings] == [f"slot {number}"]


@pytest.mark.parametrize("nth", range(4))
def test_without_any_one_name_there_is_a_page(nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tenth name of those that the vmlinux is asked for; the verdict has tests of its own."""

    def nothing_judged(_session: Session, _only: Any, _skip: Any, _samples: int, *, observe: Any) -> Result:
        observe()
        return Result(())

    monkeypatch.setattr("kvmtools.api.surveying.verdict", nothing_judged)
    guest = load("pae")
    known = [name for name in names(guest) if name != "sizeof pte_t"]  # without that there is no kernel
    everything = OpenKernel(session_of(guest, without(guest, ""))).survey()
    for name in [*known[nth * 10 :: 40], "symbol saved_command_line", "symbol e820_table_firmware"][
        nth % 2 :
    ]:
        survey = OpenKernel(session_of(guest, without(guest, name))).survey()
        page = to_html(survey)
        assert page.startswith("<!DOCTYPE html>"), name
        gone = [
            part
            for part in ("space", "pkmap", "pages", "zones", "processes")
            if getattr(everything, part) and not getattr(survey, part)
        ]
        assert bool(survey.missing) or not gone, name


@pytest.mark.parametrize("seed", range(5))
def test_of_a_guest_whose_memory_is_torn_up_there_is_a_page(seed: int) -> None:
    chance = random.Random(seed)
    guest = load(chance.choice(["pae", "nopae", "numa"]))
    for _ in range(chance.choice([1, 5, 40])):
        captured = chance.choice(guest.snapshot.captured)
        guest.snapshot.patch(chance.randrange(captured.start, captured.end - 4, 4), chance.randbytes(4))
    kernel = guest.kernel.with_memory(WholeMemory(guest.snapshot))
    assert "</html>" in to_html(OpenKernel(session_of(guest, kernel)).survey())

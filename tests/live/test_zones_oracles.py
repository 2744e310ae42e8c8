"""Our zones and RAM against /proc/zoneinfo, /proc/buddyinfo and /proc/iomem of the guest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest
from guest_says import zoneinfo

import kvmtools
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

T = TypeVar("T")

ROUNDS = 20


@dataclass(frozen=True)
class Subject:
    agent: Agent
    kernel: kvmtools.OpenKernel

    def both(self, path: str, read: Callable[[str], T]) -> tuple[T, kvmtools.Zones]:
        """What the guest says, and what we see, at a time when the guest says the same before and after."""
        for _ in range(ROUNDS):
            before = read(self.agent.text(path))
            zones = self.kernel.zones()
            if read(self.agent.text(path)) == before:
                return before, zones
        pytest.fail(f"{path} does not hold still")


@pytest.fixture
def subject(guest: Guest) -> Iterator[Subject]:
    with kvmtools.open(guest=guest.name) as kernel, Agent(guest.agent) as agent:
        agent.quiesce()
        yield Subject(agent, kernel)


def test_zoneinfo_says_the_same(subject: Subject) -> None:
    theirs, zones = subject.both("/proc/zoneinfo", zoneinfo)
    assert list(theirs) == [zone.name for zone in zones]
    for zone in zones:
        said = theirs[zone.name]
        assert said["pages free"] == [max(0, zone.vm_stat["NR_FREE_PAGES"])]
        # 5.10 has it, and does not tell.
        assert said.get("boost", [zone.watermark_boost]) == [zone.watermark_boost]
        for mark in ("min", "low", "high"):
            assert said[mark][0] == zone.watermarks[mark] + zone.watermark_boost
        assert (said["spanned"], said["present"], said["managed"]) == (
            [zone.spanned],
            [zone.present],
            [zone.managed],
        )
        assert said["protection"] == list(zone.lowmem_reserve)
        if zone.present:
            assert said["start_pfn"] == [zone.start_pfn]
            assert said["count"] == [pageset.count for pageset in zone.pcp]
            assert said["high"][1:] == [pageset.high for pageset in zone.pcp]
            assert said["batch"] == [pageset.batch for pageset in zone.pcp]


def test_what_is_free_is_on_the_lists(subject: Subject) -> None:
    """All free pages are on sound lists; counted by blocks, and by the kernel's own statistics."""
    for _ in range(ROUNDS):
        zones = subject.kernel.zones()
        if all(zone.free_pages == zone.buddy_pages for zone in zones):
            break
    for zone in zones:
        assert zone.free_pages == zone.buddy_pages
        assert not [each.broken for area in zone.free_area for each in area.lists if each.broken]
        for pageset in zone.pcp:
            assert pageset.count == pageset.pages
            assert not [each.broken for each in pageset.lists if each.broken]
    assert sum(pageset.count for zone in zones for pageset in zone.pcp) > 0


def test_buddyinfo_says_the_same(subject: Subject) -> None:
    def blocks(text: str) -> dict[str, list[int]]:
        lines = re.findall(r"^Node 0, zone +(\w+) +([\d ]+)$", text, re.MULTILINE)
        return {name.upper(): [int(number) for number in rest.split()] for name, rest in lines}

    theirs, zones = subject.both("/proc/buddyinfo", blocks)
    assert len(theirs) >= 3
    for zone in zones:
        ours = [area.blocks for area in zone.free_area]
        assert theirs.get(zone.name, [0] * len(ours)) == ours


def test_iomem_says_the_same(subject: Subject) -> None:
    """Every line: addresses, name and depth (two blanks each)."""
    text = subject.agent.text("/proc/iomem")
    theirs = [
        (int(start, 16), int(end, 16) + 1, name, len(blanks) // 2)
        for blanks, start, end, name in re.findall(
            r"^( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$", text, re.MULTILINE
        )
    ]
    ram = subject.kernel.observe(processes=False).ram
    assert theirs
    assert theirs == [(each.start, each.end, each.name, each.depth) for each in ram.resources]
    # 7.2 has no HIGHMEM64G any more: what lies above 4 GiB is RAM that nobody uses.
    end = subject.kernel.layout()["max_pfn"].live
    used = sum(min(each.end, end) - each.start for each in ram.pages if each.start < end)
    assert sum(zone.present for zone in subject.kernel.zones()) == used

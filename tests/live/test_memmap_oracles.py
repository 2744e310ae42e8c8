"""Our ``mem_map`` against what the guest itself says of every page: /proc/kpageflags and /proc/kpagecount."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import kvmtools
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.observe.pages.stable_page_flags import KPF, kpagecount, kpageflags

ROUNDS = 8
"""A page may change hands between the guest's answer and ours; not the same page in every one of so many rounds."""


@dataclass(frozen=True)
class Subject:
    agent: Agent
    kernel: kvmtools.OpenKernel

    def page_flags(self) -> NDArray[np.uint64]:
        """As ``/proc/kpageflags`` would have it."""
        seen = self.kernel.observe(processes=False)
        return kpageflags(seen.memmap, seen.kernel)

    def page_counts(self) -> NDArray[np.int64]:
        """As ``/proc/kpagecount`` would have it."""
        seen = self.kernel.observe(processes=False)
        return kpagecount(seen.memmap, seen.kernel)

    def column(self, path: str) -> NDArray[np.uint64]:
        return np.frombuffer(self.agent.read(path), "<u8")


@pytest.fixture
def subject(guest: Guest) -> Iterator[Subject]:
    with kvmtools.open(guest=guest.name) as kernel, Agent(guest.agent) as agent:
        yield Subject(agent, kernel)


@pytest.fixture
def workload(guest: Guest) -> Iterator[None]:
    """Anonymous, file and shared pages, huge ones on PAE, and pages in pkmap; then silence."""
    agent = Agent(guest.agent)
    agent.quiesce()
    agent.driver("mix 300")
    yield
    agent.driver("free")


def names(flags: int) -> list[str]:
    return [name for name, bit in KPF.items() if flags >> bit & 1]


def fitted(*columns: NDArray[Any]) -> list[NDArray[Any]]:
    """All as long as the shortest: the guest's files end at ``max_pfn``, in 7.2 ``mem_map`` with RAM or its last block.

    What lies past it is no more than such a block, or, of a PAE kernel that leaves RAM above 4 GiB alone, no RAM.
    """
    return [column[: min(map(len, columns))] for column in columns]


@pytest.mark.usefixtures("workload")
def test_every_page_has_the_flags_that_the_guest_tells(subject: Subject) -> None:
    suspects: set[int] | None = None
    for _ in range(ROUNDS):
        theirs = subject.column("/proc/kpageflags")
        ours = subject.page_flags()
        theirs, ours, after = fitted(theirs, ours, subject.column("/proc/kpageflags"))
        still = theirs == after
        assert np.count_nonzero(still) > 0.99 * len(still), "the guest is too busy to compare with"
        found = {int(pfn) for pfn in np.flatnonzero(still & (theirs != ours))}
        suspects = found if suspects is None else suspects & found
        if not suspects:
            break
    spelt = {hex(pfn): (names(int(theirs[pfn])), names(int(ours[pfn]))) for pfn in sorted(suspects or ())[:5]}
    assert not suspects, spelt
    seen = np.bitwise_or.reduce(ours)
    for name in (
        "BUDDY",
        "SLAB",
        "RESERVED",
        "PGTABLE",
        "ANON",
        "MMAP",
        "COMPOUND_HEAD",
        "COMPOUND_TAIL",
        "ZERO_PAGE",
    ):
        assert int(seen) >> KPF[name] & 1, f"no page is {name}: the comparison shows nothing"


@pytest.mark.usefixtures("workload")
def test_every_page_is_mapped_as_often_as_the_guest_tells(subject: Subject) -> None:
    suspects: set[int] | None = None
    for _ in range(ROUNDS):
        theirs = subject.column("/proc/kpagecount").astype(np.int64)
        ours = subject.page_counts()
        theirs, ours, after = fitted(theirs, ours, subject.column("/proc/kpagecount").astype(np.int64))
        still = theirs == after
        assert np.count_nonzero(still) > 0.99 * len(still), "the guest is too busy to compare with"
        found = {int(pfn) for pfn in np.flatnonzero(still & (theirs != ours))}
        suspects = found if suspects is None else suspects & found
        if not suspects:
            break
    assert not suspects, {hex(pfn): (int(theirs[pfn]), int(ours[pfn])) for pfn in sorted(suspects)[:5]}
    assert (ours >= 1).any()


def test_pages_of_processes(subject: Subject) -> None:
    """A process and its child hold 512 MiB, some pages shared, some copied, with huge pages on PAE."""
    subject.agent.workload("hold", 1, 512)
    try:
        for _ in range(ROUNDS):
            same, other = _mapped_pages(subject)
            if same > 512 << 8:  # copies included, they hold more than what was mapped
                break
            time.sleep(1)
    finally:
        subject.agent.quiesce()
    assert same > 512 << 8
    assert not other


def _mapped_pages(subject: Subject) -> tuple[int, int]:
    """Mapped pages of which the guest says the same before and after: how many we see like it, how many not."""
    paths = ("/proc/kpageflags", "/proc/kpagecount")
    before = [subject.column(path) for path in paths]
    seen = subject.kernel.observe(processes=False)
    after = [subject.column(path) for path in paths]
    ours = [kpageflags(seen.memmap, seen.kernel), kpagecount(seen.memmap, seen.kernel).astype(np.uint64)]
    columns = fitted(*before, *after, *ours)
    before, after, ours = columns[:2], columns[2:4], columns[4:]
    still = (before[0] == after[0]) & (before[1] == after[1]) & (before[1] > 0)
    same = (ours[0] == before[0]) & (ours[1] == before[1])
    return int(np.count_nonzero(still & same)), int(np.count_nonzero(still & ~same))

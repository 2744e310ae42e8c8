"""Every state that 3 threads can bring 4 slots into with 6 pages, for each generation of bookkeeping.

Two states are one if they differ only in the names of pages or threads: all pages are highmem and in one bucket of the
hash, and every thread may do the same.  Left out of a state are the counter of flushes, the contents of stale hash
entries (nobody reads them) and, with three threads, the order of the hash's lists.  Bounded is what a thread may
have mapped at once: two different pages; the counts would grow without end otherwise.

Sections run as a whole, and what others could see meanwhile is checked step by step.  That loses nothing, for the lock
keeps everybody else from changing what is seen; :func:`test_interleaving_every_step_shows_nothing_new` checks
this claim where there are few enough steps.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import pytest
from pkmap_explorer import Explorer, can_reach

from kvmtools.model.pkmap.invariants import broken
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import RUNNING, UNINTERRUPTIBLE, PkmapThreads, Section, Thread
from kvmtools.model.pkmap.tlb import Tlbs


@pytest.fixture(autouse=True)
def nothing_is_garbage() -> Iterator[None]:
    """Every state is kept, so looking for unreachable ones only costs time."""
    gc.disable()
    yield
    gc.enable()


GENERATIONS = {"2.4": "member", "2.6.18": "pool", "6.1": "indexed"}


@pytest.mark.parametrize("era", GENERATIONS)
def test_every_state_of_4_slots_6_pages_and_3_threads(era: str, capsys: pytest.CaptureFixture[str]) -> None:
    explorer = Explorer(era, slots=4, pages=6, threads=3, maps=2)
    states = explorer.explore()
    with capsys.disabled():
        print(
            f"\n{era} ({GENERATIONS[era]}): {len(states)} states, {len(explorer.edges)} transitions, "
            f"{explorer.instants} instants with the lock held"
        )
    # Nobody is left behind: whatever happened, everybody can still come to an end.
    rest = {number for number, state in enumerate(states) if state.at_rest}
    assert len(can_reach(rest, explorer.edges)) == len(states)
    # The interesting states were among them.
    assert {state.sleepers for state in states} == {0, 1, 2}
    assert {max(state.counts) for state in states} == {0, 1, 2, 3, 4}
    assert {state.cursor for state in states} == {0, 1, 2, 3}
    events = {
        "flush at a wrap",
        "woken: page found",
        "woken: asleep again",
        "woken: slot found",
        "taken up again",
    }
    assert set(explorer.events) - {"entry is not slot"} == events
    assert ("entry is not slot" in explorer.events) == (era == "2.6.18")


@pytest.mark.parametrize("era", ["2.6.32", "6.1"])
def test_every_order_of_the_lists(era: str) -> None:
    """With two threads the orders of bucket and pool can be told apart; kmap_flush_unused brings all of them about."""
    explorer = Explorer(era, slots=3, pages=5, threads=2, maps=2, lists=True)
    states = explorer.explore()
    assert {len(state.lists[0]) for state in states} == {0, 1, 2, 3}
    orders = {state.lists[0] for state in states if len(state.lists[0]) == 3}
    assert len(orders) == 6
    pools = {state.lists[2] for state in states}
    assert pools == {()} if era == "6.1" else len(pools) == 1 + 3 + 6 + 6


def test_a_deadlock_is_a_state_like_others() -> None:
    """Three threads that each keep one of three slots and ask for another page sleep for ever."""
    explorer = Explorer("2.6.18", slots=3, pages=4, threads=3, maps=2)
    states = explorer.explore()
    everything = set(range(len(states)))
    ended = can_reach({number for number in everything if states[number].at_rest}, explorer.edges)
    deadlocked = set()
    for number in everything:
        explorer.thaw(states[number])
        if explorer.threads.deadlocked:
            deadlocked.add(number)
    assert deadlocked
    assert not deadlocked & ended
    # Who cannot come to an end any more is on the way into a deadlock.
    assert everything - ended <= can_reach(deadlocked, explorer.edges)
    all_asleep = {number for number in deadlocked if states[number].sleepers == 3}
    assert all_asleep
    assert all_asleep == everything - {here for here, _ in explorer.edges}


def test_interleaving_every_step_shows_nothing_new() -> None:
    """At every step within a section the others do what needs no lock: the same states follow."""
    explorer = Explorer("6.1", slots=2, pages=3, threads=3, maps=1)
    states = explorer.explore()
    known = set(states)
    mixed = 0
    for state in states:
        paths = [[choice] for choice in explorer.choices(state)]
        while paths:
            path = paths.pop()
            explorer.thaw(state)
            for choice in path:
                explorer.begin(choice)
                explorer.threads.step(explorer.tasks[choice[0]].name)
            assert not broken(explorer.threads), (state, path)
            if explorer.threads.owner is None:
                assert explorer.freeze() in known, (state, path)
                mixed += len({number for number, _, _ in path}) > 1
            else:
                runnable = explorer.threads.runnable()
                paths += [
                    [*path, (number, "run", -1)]
                    for number, task in enumerate(explorer.tasks)
                    if task.section and task.name in runnable
                ]
    assert mixed > 100


class Forgetful(Tlbs):
    """TLBs that nobody flushes."""

    def flush(self, cpu: int) -> None:
        """Nothing happens."""


class NoFlush(PkmapTable):
    """A kernel that unmaps slots and leaves the TLBs alone."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.tlbs = Forgetful(len(self.tlbs.cpus))


class NoFlushOnRequest(NoFlush):
    """A kernel that flushes the TLBs when the cursor wraps only, and not after kmap_flush_unused."""

    def kmap_high(self, page: int) -> Generator[str, None, int | None]:
        flushes = self.flushes
        virtual = yield from super().kmap_high(page)
        if self.flushes > flushes:
            for cached in self.tlbs.cpus:
                cached.intersection_update(enumerate(self.ptes))
        return virtual


class FreesAtOnce(PkmapTable):
    """A kernel that frees a slot when its last user goes."""

    def kunmap_high(self, page: int) -> bool:
        unused = super().kunmap_high(page)
        if unused:
            slot = self.ptes.index(page)
            self.pkmap_count[slot], self.ptes[slot] = 0, None
            self.addresses.set_page_address(page, None)
        return unused


class NoWakeUp(PkmapThreads):
    """A kernel that frees slots and tells nobody."""

    def _kunmap_high(self, thread: Thread) -> Section:
        yield from super()._kunmap_high(thread)
        return ""


class QueuesLate(PkmapThreads):
    """A kernel whose sleepers join the wait queue after they have dropped the lock."""

    def __init__(self, table: PkmapTable, names: Iterable[str]) -> None:
        super().__init__(table, names)
        self._sections["add_wait_queue"] = self._add_wait_queue

    def _kmap_high(self, thread: Thread) -> Section:
        following = yield from super()._kmap_high(thread)
        if following:
            self.queue.remove(thread)
            thread.state = RUNNING
            return "add_wait_queue"
        return following

    def _add_wait_queue(self, thread: Thread) -> Section:
        yield from ()
        thread.state = UNINTERRUPTIBLE
        self.queue.insert(0, thread)
        return "remove_wait_queue"


class WakesOne(PkmapThreads):
    """A kernel whose sleepers wait exclusively, so that only the first of them is woken."""

    def _wake_up(self, thread: Thread) -> Section:
        yield from ()
        self.queue[-1].state = RUNNING
        return ""


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"table": NoFlush}, "no TLB holds what the page table does not"),
        ({"table": NoFlushOnRequest}, "no TLB holds what the page table does not"),
        ({"table": FreesAtOnce}, "no TLB holds what the page table does not"),
        ({"machine": NoWakeUp}, "who sleeps finds every slot in use, or a wake-up comes"),
        ({"machine": QueuesLate}, "who sleeps finds every slot in use, or a wake-up comes"),
        ({"machine": WakesOne}, "who sleeps finds every slot in use, or a wake-up comes"),
    ],
)
def test_the_search_finds_what_is_wrong(wrong: dict[str, Any], complaint: str) -> None:
    """Each of these kernels is wrong in a way that only some interleavings show."""
    with pytest.raises(AssertionError, match=complaint):
        Explorer("6.1", slots=2, pages=4, threads=3, maps=2, **wrong).explore()

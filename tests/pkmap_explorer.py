"""Visit every state that a few threads can bring a small pkmap into, breadth first.

A state is what there is between two sections, when nobody holds ``kmap_lock``, as nested tuples of small numbers:
pages are called 0, 1, ... in the order of the slots that map them and then of the threads that ask for them, and the
threads are sorted, so that states which differ only in names are one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kvmtools.model import eras
from kvmtools.model.pkmap.area import PkmapArea, bucket_of
from kvmtools.model.pkmap.invariants import INVARIANTS, Invariant, broken
from kvmtools.model.pkmap.page_address import LISTED, IndexedAddresses, MemberAddresses, PoolAddresses
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import UNINTERRUPTIBLE, PkmapThreads

NO_PAGE = -1
ABOUT_NO_PAGE = ("", "wake_up")
ABOUT_THREADS = tuple(rule for rule in INVARIANTS if rule.number in ("13", "14"))


class Task(NamedTuple):
    """One thread between two sections."""

    section: str
    state: str
    page: int
    maps: tuple[int, ...]
    queued: int
    """How often it is in the wait queue, whose order says nothing: all are woken."""

    @property
    def asleep(self) -> bool:
        return self.state == UNINTERRUPTIBLE


class State(NamedTuple):
    counts: tuple[int, ...]
    pages: tuple[int, ...]
    cursor: int
    tasks: tuple[Task, ...]
    lists: tuple[tuple[int, ...], ...]
    """Bucket, slots of its entries, pool; empty where the order of lists is left out."""

    @property
    def sleepers(self) -> int:
        return sum(task.asleep for task in self.tasks)

    @property
    def at_rest(self) -> bool:
        return not any(task.section or task.maps for task in self.tasks)


Choice = tuple[int, str, int]
"""Number of the thread, what it does, and the number of the page."""


class Explorer:
    """Threads that can be put into any state and let go on from there.

    :param maps: how many different pages one thread may have mapped
    :param table: the class of the table, and ``machine`` that of the threads, for tests that damage them
    :param lists: tell apart states that differ in the order of the bucket and of the pool
    """

    def __init__(
        self,
        era: str,
        *,
        slots: int,
        pages: int,
        threads: int,
        maps: int,
        lists: bool = False,
        table: type[PkmapTable] = PkmapTable,
        machine: type[PkmapThreads] = PkmapThreads,
    ) -> None:
        self.era = eras.named(era)
        self.table = table(PkmapArea(0xFE000000, slots, 0x163), self.era, nr_cpus=threads)
        self.threads = machine(self.table, "ABCDEF"[:threads])
        self.tasks = list(self.threads.threads.values())
        self.maps = maps
        self.lists = lists
        self.pages = _of_one_bucket(self.era, pages)
        self.edges: list[tuple[int, int]] = []
        """From which state to which, by their numbers in the order of their discovery."""
        self.events: Counter[str] = Counter()
        self.sections: set[object] = set()
        """The sections run, and the tables they ran on: all that decides what they make of the table, and how."""
        self.instants = 0
        """How many instants with the lock held were looked at."""

    def explore(self) -> list[State]:
        """Every reachable state; asserts the invariants in each and at every step between them."""
        states = [self.freeze()]
        number = {states[0]: 0}
        # The list grows while it is walked: it is the queue of a breadth-first search.
        for here, state in enumerate(states):
            for choice in self.choices(state):
                self.thaw(state)
                after = self.take(state, choice)
                there = number.setdefault(after, len(states))
                self.edges.append((here, there))
                if there == len(states):
                    self.check(ABOUT_THREADS, state, choice)
                    states.append(after)
        return states

    def choices(self, state: State) -> Iterator[Choice]:
        """What may happen; of threads in the same situation only the first moves, of untouched pages one is used."""
        known = {*state.pages, *(task.page for task in state.tasks)} - {NO_PAGE}
        asked = range(min(len(known) + 1, len(self.pages)))
        flushed = False
        for number, task in enumerate(state.tasks):
            if task.state == UNINTERRUPTIBLE or task in state.tasks[:number]:
                continue
            if task.section:
                yield number, "run", NO_PAGE
                continue
            if len(task.maps) < self.maps:
                yield from ((number, "kmap", page) for page in asked if page not in task.maps)
            yield from ((number, "kunmap", page) for page in task.maps)
            if self.era.kmap_flush_unused and not flushed:
                flushed = True
                yield number, "kmap_flush_unused", NO_PAGE

    def take(self, state: State, choice: Choice) -> State:
        """Do it, up to the end of the section, and note what was worth seeing."""
        self.begin(choice)
        task = self.tasks[choice[0]]
        page = task.page if task.page in self.table.ptes else None
        section = (state.counts, state.pages, state.cursor, state.lists, task.section, page)
        known = section in self.sections
        self.sections.add(section)
        self.threads.step(task.name)
        while task.steps is not None and not known:
            self.instants += 1
            assert not broken(self.threads), (state, choice, broken(self.threads))
            self.threads.step(task.name)
        if task.steps is not None:
            self.threads.run(task.name)
        if not known:
            # Also if it ends in a state that was met before: a state says nothing of TLBs and page addresses.
            self.check(INVARIANTS, state, choice)
        after = self.freeze()
        if task.state == UNINTERRUPTIBLE:
            # FACTS E 13: nobody falls asleep but on the last slot, whatever the cursor was, and with all in use.
            assert after.cursor == len(after.counts) - 1, (state, choice)
            assert min(after.counts) >= 2, (state, choice)
        self.note(state, choice, after)
        return after

    def begin(self, choice: Choice) -> None:
        """Let a thread enter its call, which nobody can see yet."""
        number, what, page = choice
        name = self.tasks[number].name
        if what == "kmap":
            self.threads.kmap(name, self.pages[page])
        elif what == "kunmap":
            self.threads.kunmap(name, self.pages[page])
        elif what == "kmap_flush_unused":
            self.threads.kmap_flush_unused(name)

    def note(self, state: State, choice: Choice, after: State) -> None:
        number, what, page = choice
        if self.table.flushes and what != "kmap_flush_unused":
            self.events["flush at a wrap"] += 1
        if what == "run" and state.tasks[number].section == "kmap_high":
            found = state.tasks[number].page in state.pages
            again = self.tasks[number].state == UNINTERRUPTIBLE
            self.events[
                "woken: " + ("page found" if found else "asleep again" if again else "slot found")
            ] += 1
        if what == "kmap" and page in state.pages and state.counts[state.pages.index(page)] == 1:
            self.events["taken up again"] += 1
        addresses = self.table.addresses
        if isinstance(addresses, PoolAddresses):
            for bucket in addresses.htable.values():
                if any(self.table.area.pkmap_nr(addresses.maps[index].virtual) != index for index in bucket):
                    self.events["entry is not slot"] += 1

    def check(self, rules: Iterable[Invariant], before: State, choice: Choice) -> None:
        """Check what must hold now that the choice was carried out, and nobody holds the lock."""
        assert self.threads.owner is None, (before, choice)
        complaints = [rule.says for rule in rules if not rule.holds(self.threads)]
        assert not complaints, (before, choice, complaints)

    def freeze(self) -> State:
        """The state as it is, with names taken out of it."""
        table = self.table
        name: dict[int, int] = {}
        for page in table.ptes:
            if page is not None:
                name[page] = len(name)
        unmapped = len(name)
        tasks = []
        for task in self.tasks:
            maps = sorted([name[page] for page in task.maps])
            page = NO_PAGE if task.section in ABOUT_NO_PAGE else name.get(task.page, unmapped)
            queued = self.threads.queue.count(task)
            tasks.append((task.section, task.state, page, tuple(maps), queued, task.page))
        tasks.sort()
        return State(
            tuple(table.pkmap_count),
            tuple([NO_PAGE if page is None else name[page] for page in table.ptes]),
            table.last_pkmap_nr,
            tuple(
                [
                    Task(
                        section,
                        state,
                        name.setdefault(real, len(name)) if page == unmapped else page,
                        maps,
                        queued,
                    )
                    for section, state, page, maps, queued, real in tasks
                ]
            ),
            self._freeze_lists() if self.lists else (),
        )

    def thaw(self, state: State) -> None:
        """Put the threads and the table into a state; the TLBs hold what the invariant allows there."""
        table = self.table
        table.pkmap_count[:] = state.counts
        pages = self.pages
        table.ptes[:] = [None if page < 0 else pages[page] for page in state.pages]
        table.last_pkmap_nr = state.cursor
        table.flushes = 0
        mapped = [(slot, page) for slot, page in enumerate(table.ptes) if page is not None]
        table.tlbs.cpus[:] = [set(mapped) for _ in table.tlbs.cpus]
        self._thaw_lists(state, mapped)
        self.threads.owner = None
        self.threads.queue = []
        for task, (section, running, wanted, maps, queued) in zip(self.tasks, state.tasks, strict=True):
            task.section, task.state, task.steps = section, running, None
            task.page = pages[wanted]
            task.maps = [pages[page] for page in maps]
            self.threads.queue += [task] * queued

    def _freeze_lists(self) -> tuple[tuple[int, ...], ...]:
        addresses = self.table.addresses
        assert isinstance(addresses, IndexedAddresses)
        bucket = addresses.htable.get(addresses.page_slot(self.pages[0]), [])
        slots = (self.table.area.pkmap_nr(addresses.maps[index].virtual) for index in bucket)
        pool = addresses.pool if isinstance(addresses, PoolAddresses) else ()
        return tuple(bucket), tuple(slots), tuple(pool)

    def _thaw_lists(self, state: State, mapped: list[tuple[int, int]]) -> None:
        table, addresses = self.table, self.table.addresses
        if isinstance(addresses, MemberAddresses):
            addresses.virtual = {page: table.area.address_of(slot) for slot, page in mapped}
            return
        assert isinstance(addresses, IndexedAddresses)
        if self.lists:
            indexes, slots, pool = state.lists
        else:
            # One of the orders will do: the last slot's entry first, and in the pool one that is not the slot's.
            slots = tuple(slot for slot, _ in reversed(mapped))
            turn = state.cursor if isinstance(addresses, PoolAddresses) else 0
            indexes = tuple((slot + turn) % table.area.slots for slot in slots)
            pool = tuple(index for index in range(table.area.slots) if index not in indexes)
        addresses.htable[addresses.page_slot(self.pages[0])] = list(indexes)
        for index, slot in zip(indexes, slots, strict=True):
            entry = addresses.maps[index]
            entry.page, entry.virtual, entry.links = (
                table.ptes[slot] or 0,
                table.area.address_of(slot),
                LISTED,
            )
        if isinstance(addresses, PoolAddresses):
            addresses.pool[:] = pool


def _of_one_bucket(era: eras.Era, number: int) -> list[int]:
    """Addresses of struct pages that all belong to one bucket of the hash, if the era has a hash."""
    candidates = range(0xC4000000, 0xC5000000, 32)
    multiplier = era.hash_multiplier or 0
    bucket = bucket_of(candidates[0], multiplier=multiplier)
    found = (page for page in candidates if bucket_of(page, multiplier=multiplier) == bucket)
    return [next(found) for _ in range(number)]


def can_reach(goals: set[int], edges: list[tuple[int, int]]) -> set[int]:
    """The states from which one of the goals can be reached."""
    before: dict[int, list[int]] = {}
    for state, after in edges:
        before.setdefault(after, []).append(state)
    found = set(goals)
    todo = list(goals)
    while todo:
        for state in before.get(todo.pop(), ()):
            if state not in found:
                found.add(state)
                todo.append(state)
    return found

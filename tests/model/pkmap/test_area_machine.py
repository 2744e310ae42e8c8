"""Several threads on 8 slots for thousands of steps, beside an oracle of another shape.

The oracle has no counts, no PTEs, no hash and no lock: a dict of who uses which page, where each page lies, and the
slots in the order in which they will be tried.  It knows who sleeps and who was woken from what it was told so far.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvmtools.model import eras
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.invariants import broken
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import PkmapThreads

SLOTS = 8
NAMES = "ABCDE"
PAGES = 12


def page(number: int) -> int:
    return 0xC4000000 + 32 * number


class Oracle:
    """Who uses what, and where it lies."""

    def __init__(self) -> None:
        self.users: dict[int, list[str]] = {}
        """Page to the threads that hold it; an empty list waits for a flush."""
        self.place: dict[int, int] = {}
        self.queue = [*range(1, SLOTS), 0]
        """Slots in the order in which they will be tried."""
        self.wants: dict[str, int] = {}
        """Threads that sleep, and the page that each of them wants."""
        self.woken: dict[str, int] = {}

    def kmap(self, name: str, number: int) -> bool:
        """Whether the thread gets the page; if not it sleeps."""
        if number not in self.place and not self._found_place(number):
            self.wants[name] = number
            return False
        self.users[number].append(name)
        return True

    def _found_place(self, number: int) -> bool:
        if self._nothing_unused() and len(self.place) == SLOTS:
            while self.queue[-1] != SLOTS - 1:
                self.queue.append(self.queue.pop(0))
            return False
        while True:
            slot = self.queue.pop(0)
            self.queue.append(slot)
            if slot == 0:
                self.flush()
            if slot not in self.place.values():
                self.place[number], self.users[number] = slot, []
                return True

    def kunmap(self, name: str, number: int) -> None:
        self.users[number].remove(name)
        if not self.users[number]:
            self.woken.update(self.wants)
            self.wants.clear()

    def flush(self) -> None:
        for number in [n for n, names in self.users.items() if not names]:
            del self.users[number], self.place[number]

    def _nothing_unused(self) -> bool:
        return all(self.users.values())


class Pkmap(RuleBasedStateMachine):
    """Each rule is one section, or one call that is run as far as it goes."""

    @initialize(era=st.sampled_from(["2.4", "2.6.18", "2.6.32", "5.10", "6.1"]))
    def boot(self, era: str) -> None:
        table = PkmapTable(PkmapArea(0xFE000000, SLOTS, 0x163), eras.named(era), nr_cpus=2)
        self.threads = PkmapThreads(table, [*NAMES, "rescuer"])
        self.oracle = Oracle()

    def idle(self) -> list[str]:
        return [name for name in NAMES if name not in self.oracle.wants and name not in self.oracle.woken]

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), number=st.integers(0, PAGES - 1))
    def kmap(self, data: st.DataObject, number: int) -> None:
        name = data.draw(st.sampled_from(self.idle()))
        self.threads.kmap(name, page(number))
        self.goes_on(name, number)

    def goes_on(self, name: str, number: int) -> None:
        """The thread runs, and gets its page or not as the oracle says."""
        thread = self.threads.finish(name)
        if self.oracle.kmap(name, number):
            assert thread.address == 0xFE000000 + 4096 * self.oracle.place[number]
            assert thread.section == ""
        else:
            assert thread in self.threads.sleepers

    @precondition(lambda self: any(self.held()))
    @rule(data=st.data())
    def kunmap(self, data: st.DataObject) -> None:
        name, number = data.draw(st.sampled_from(self.held()))
        self.threads.kunmap(name, page(number))
        self.oracle.kunmap(name, number)
        self.threads.finish(name)

    @precondition(lambda self: self.threads.deadlocked)
    @rule(data=st.data())
    def a_mapping_is_given_back_by_somebody_else(self, data: st.DataObject) -> None:
        """Nobody could go on otherwise: the kernel does not mind who calls kunmap."""
        number = data.draw(st.sampled_from(sorted(self.oracle.users)))
        self.threads.kunmap("rescuer", page(number))
        self.threads.finish("rescuer")
        self.oracle.kunmap(min(self.oracle.users[number]), number)

    def held(self) -> list[tuple[str, int]]:
        """What threads that are awake could give back."""
        return sorted(
            {(n, number) for number, names in self.oracle.users.items() for n in names if n in self.idle()}
        )

    @precondition(lambda self: self.oracle.woken)
    @rule(data=st.data())
    def wakes(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.oracle.woken)))
        self.goes_on(name, self.oracle.woken.pop(name))

    @precondition(lambda self: self.idle() and self.threads.table.era.kmap_flush_unused)
    @rule(data=st.data())
    def change_page_attributes(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.idle()))
        before = self.threads.table.flushes
        waiting = not all(self.oracle.users.values())
        self.oracle.flush()
        self.threads.kmap_flush_unused(name)
        self.threads.finish(name)
        assert (self.threads.table.flushes > before) == waiting or self.threads.table.era.flush_tlb_always

    @invariant()
    def they_agree(self) -> None:
        table, oracle = self.threads.table, self.oracle
        at = {slot: number for number, slot in oracle.place.items()}
        assert table.ptes == [page(at[slot]) if slot in at else None for slot in range(SLOTS)]
        assert table.pkmap_count == [
            1 + len(oracle.users[at[slot]]) if slot in at else 0 for slot in range(SLOTS)
        ]
        assert (table.last_pkmap_nr + 1) % SLOTS == oracle.queue[0]
        assert {thread.name for thread in self.threads.sleepers} == set(oracle.wants)
        assert set(self.threads.runnable()) == set(oracle.woken)
        for number in range(PAGES):
            place = oracle.place.get(number)
            assert table.page_address(page(number)) == (None if place is None else 0xFE000000 + 4096 * place)
        everybody_stuck = bool(oracle.wants) and not oracle.woken and not self.held()
        assert self.threads.deadlocked == everybody_stuck

    @invariant()
    def nothing_is_broken(self) -> None:
        assert not [rule.says for rule in broken(self.threads)]


Pkmap.TestCase.settings = settings(max_examples=40, stateful_step_count=100, deadline=None, derandomize=True)
TestPkmap = Pkmap.TestCase

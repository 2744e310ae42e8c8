"""Threads that use pkmap, scheduled by hand: every interleaving of ``kmap`` and ``kunmap`` can be driven.

A call is cut into *sections*, at the points where ``kmap_lock`` is taken or dropped.  Between two sections a thread has
no local variable but the page: it is wholly described by the name of the section that comes next.

====================  =====  ===========================================================================
``kmap_high``         lock   maps the page, or joins the wait queue and goes to sleep
``remove_wait_queue``        what a sleeper does when it was woken; then ``kmap_high`` from its beginning
``kunmap_high``       lock   takes a user away; then ``wake_up`` if the slot is unused and somebody waits
``wake_up``                  wakes all sleepers, for they do not wait exclusively
``kmap_flush_unused`` lock   flushes the unused slots; the cursor stays
====================  =====  ===========================================================================

The kernel's sleeper does not go back to the beginning of kmap_high but looks for the page's address and then to
``start`` in map_new_virtual, which is the same: kmap_high begins with looking for the page's address.

Source: kmap_high, map_new_virtual, kunmap_high and kmap_flush_unused in mm/highmem.c, 2.4.18 to 6.12.  (2.4.0 calls
wake_up with the lock still held.)  kmap and kunmap in include/asm-i386/highmem.h, 2.4.0, arch/x86/mm/highmem_32.c,
2.6.24 and 2.6.32, include/linux/highmem.h, 5.10.  An interrupt that would sleep: schedule in kernel/sched.c (2.4, a
BUG), schedule_debug in kernel/sched/core.c, 6.1, which reports it and goes on, and whatever was interrupted sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from kvmtools.errors import UsageError
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pkmap.table import PkmapTable

RUNNING, UNINTERRUPTIBLE, DEAD = "TASK_RUNNING", "TASK_UNINTERRUPTIBLE", "TASK_DEAD"
LOCKED = frozenset({"kmap_high", "kunmap_high", "kmap_flush_unused"})
"""The sections that run with ``kmap_lock`` held."""

_NOT_FOR_INTERRUPTS = {
    "kmap": "may have to sleep there",
    "kunmap": "would spin for ever if it interrupted whoever holds kmap_lock",
}

Section = Generator[str, None, str]
"""Yields what it did, returns the name of the section that follows, "" at the end of the call."""


class Thread:
    """One task in the kernel, and what it has mapped."""

    def __init__(self, name: str, cpu: int) -> None:
        self.name = name
        self.cpu = cpu
        self.state = RUNNING
        self.in_interrupt = False
        """It is an interrupt, and must use neither kmap nor kunmap."""
        self.section = ""
        """Which section comes next or goes on; "" outside of any call."""
        self.page = 0
        """The page that the call is about."""
        self.address = 0
        """What the last kmap returned."""
        self.maps: list[int] = []
        """The pages that it may use: one item for each kmap that no kunmap took away."""
        self.steps: Section | None = None
        """The section that it is in the middle of."""


class PkmapThreads:
    """Threads, ``kmap_lock`` and the wait queue ``pkmap_map_wait`` around one table.

    :param names: of the threads; thread *i* runs on CPU *i* modulo the number of CPUs
    """

    def __init__(self, table: PkmapTable, names: Iterable[str]) -> None:
        self.table = table
        cpus = len(table.tlbs.cpus)
        self.threads = {name: Thread(name, number % cpus) for number, name in enumerate(names)}
        self.owner: Thread | None = None
        """Who holds ``kmap_lock``."""
        self.queue: list[Thread] = []
        """``pkmap_map_wait``: new ones join at the head."""
        self._sections: dict[str, Callable[[Thread], Section]] = {
            "kmap_high": self._kmap_high,
            "remove_wait_queue": self._remove_wait_queue,
            "kunmap_high": self._kunmap_high,
            "wake_up": self._wake_up,
            "kmap_flush_unused": self._kmap_flush_unused,
        }

    def kmap(self, name: str, page: int) -> None:
        """Let a thread call ``kmap``.  A lowmem page needs no slot: the call is over at once.

        :raises UsageError: if the thread is in a call already
        :raises KernelBug: if it is an interrupt, where the era looks at that
        """
        thread = self._entering(name, "kmap")
        if self.table.highmem(page):
            thread.section, thread.page = "kmap_high", page
        else:
            thread.address = self.table.lowmem_address(page)

    def kunmap(self, name: str, page: int) -> None:
        """Let a thread call ``kunmap``, which does nothing for a lowmem page.

        :raises UsageError: if the thread is in a call already
        :raises KernelBug: if it is an interrupt, where the era looks at that
        """
        thread = self._entering(name, "kunmap")
        if self.table.highmem(page):
            thread.section, thread.page = "kunmap_high", page

    def interrupt(self, name: str) -> None:
        """Make a thread an interrupt from now on.

        :raises UsageError: if the thread is in a call
        """
        self._idle(name).in_interrupt = True

    def kmap_flush_unused(self, name: str) -> None:
        """Let a thread flush the unused slots, as every change of page attributes does (set_memory.c).

        :raises UsageError: if the thread is in a call already, or the era has no such function
        """
        thread = self._idle(name)
        if not self.table.era.kmap_flush_unused:
            raise UsageError(f"{self.table.era.name} has no kmap_flush_unused")
        thread.section = "kmap_flush_unused"

    def blocked(self, name: str) -> str:
        """Why a thread cannot take a step now; "" if it can.

        :raises UsageError: if there is no such thread
        """
        thread = self._thread(name)
        if thread.state == DEAD:
            return f"{name} is dead: a BUG_ON in {thread.section} stopped it"
        if thread.state == UNINTERRUPTIBLE:
            return f"{name} sleeps until a slot becomes unused"
        if not thread.section:
            return f"{name} is in no call"
        if thread.section in LOCKED and self.owner is not None and self.owner is not thread:
            return f"{name} spins on kmap_lock, which {self.owner.name} holds"
        return ""

    def runnable(self) -> list[str]:
        """The threads that can take a step."""
        return [name for name in self.threads if not self.blocked(name)]

    def step(self, name: str) -> str:
        """Let a thread run up to its next store that others can see, or to the end of its section.

        :returns: what it did last
        :raises UsageError: if it cannot run now
        :raises KernelBug: if a BUG_ON holds; the thread dies, and ``kmap_lock`` is never dropped
        """
        reason = self.blocked(name)
        if reason:
            raise UsageError(reason)
        thread = self.threads[name]
        if thread.steps is None:
            thread.steps = self._sections[thread.section](thread)
            if thread.section in LOCKED:
                self.owner = thread
        try:
            return next(thread.steps)
        except StopIteration as end:
            done, thread.section, thread.steps = thread.section, end.value, None
            if done in LOCKED:
                self.owner = None
            return done
        except KernelBug:
            thread.state = DEAD
            raise

    def run(self, name: str) -> str:
        """Let a thread run to the end of its section: from where it is to where it drops the lock.

        :returns: the name of the section
        :raises UsageError: if it cannot run now
        :raises KernelBug: if a BUG_ON holds
        """
        done = self.step(name)
        while self.threads[name].steps is not None:
            done = self.step(name)
        return done

    def finish(self, name: str) -> Thread:
        """Let a thread run until its call is over, or it cannot go on."""
        while not self.blocked(name):
            self.run(name)
        return self.threads[name]

    def settle(self) -> list[str]:
        """Let everybody run in turns, section by section, until nobody can.

        :returns: who ran, in the order in which they first did
        """
        ran: list[str] = []
        while names := self.runnable():
            ran += [name for name in names if name not in ran]
            for name in names:
                self.run(name)
        return ran

    @property
    def sleepers(self) -> list[Thread]:
        """The threads in TASK_UNINTERRUPTIBLE."""
        return [thread for thread in self.threads.values() if thread.state == UNINTERRUPTIBLE]

    @property
    def deadlocked(self) -> bool:
        """Whether somebody sleeps, and everybody who could wake them by a kunmap sleeps too."""
        sleepers = self.sleepers
        return bool(sleepers) and not any(
            thread.section or thread.maps for thread in self.threads.values() if thread not in sleepers
        )

    def _thread(self, name: str) -> Thread:
        if name not in self.threads:
            raise UsageError(f"there is no thread {name}", hint=f"there are {', '.join(self.threads)}")
        return self.threads[name]

    def _entering(self, name: str, call: str) -> Thread:
        thread = self._idle(name)
        if thread.in_interrupt and call in self.table.era.interrupt_bugs:
            thread.section, thread.state = call, DEAD
            raise KernelBug(
                "in_interrupt()", f"{call} by {name}, an interrupt, which {_NOT_FOR_INTERRUPTS[call]}"
            )
        return thread

    def _idle(self, name: str) -> Thread:
        thread = self._thread(name)
        if thread.state == DEAD:
            raise UsageError(self.blocked(name))
        if thread.state == UNINTERRUPTIBLE:
            page = self.table.page_name(thread.page)
            raise UsageError(
                f"{name} sleeps for page {page}", hint="another thread's kunmap wakes it; then let it run"
            )
        if thread.section:
            raise UsageError(
                f"{name} is in {thread.section} already", hint="let it run to the end of its call"
            )
        return thread

    def _kmap_high(self, thread: Thread) -> Section:
        address = yield from self.table.kmap_high(thread.page)
        if address is None and thread.in_interrupt:
            # The lock is dropped before schedule() looks who calls it.
            self.owner = None
            raise KernelBug(
                "scheduling while atomic", f"{thread.name}, an interrupt, finds every slot in use"
            )
        if address is None:
            # The state is set and the queue joined before the lock is dropped, so no wake-up can be missed.
            thread.state = UNINTERRUPTIBLE
            self.queue.insert(0, thread)
            return "remove_wait_queue"
        thread.address = address
        thread.maps.append(thread.page)
        return ""

    def _remove_wait_queue(self, thread: Thread) -> Section:
        yield from ()
        self.queue.remove(thread)
        return "kmap_high"

    def _kunmap_high(self, thread: Thread) -> Section:
        yield from ()
        unused = self.table.kunmap_high(thread.page)
        # A mapping may have been handed over: whoever has it must not use it any more.
        holder = next(other for other in (thread, *self.threads.values()) if thread.page in other.maps)
        holder.maps.remove(thread.page)
        return "wake_up" if unused and self.queue else ""

    def _wake_up(self, thread: Thread) -> Section:
        yield from ()
        for sleeper in self.queue:
            sleeper.state = RUNNING
        return ""

    def _kmap_flush_unused(self, thread: Thread) -> Section:
        yield from self.table.flush_all_zero_pkmaps()
        return ""

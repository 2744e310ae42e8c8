"""The line language of ``kvmtools model pkmap``, and the machine that its lines drive.

A line is ``[THREAD:] WORD [PAGE]``; what follows a ``#`` is a comment.  Pages are numbers, counted from the first of
high memory, for ``lowmem`` from the first of RAM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvmtools.errors import UsageError
from kvmtools.model.eras import Era
from kvmtools.model.pkmap import PkmapArea
from kvmtools.model.pkmap_table import PkmapTable
from kvmtools.model.pkmap_threads import UNINTERRUPTIBLE, PkmapThreads, Thread
from kvmtools.records import PAGE_SIZE

NAMES = tuple("ABCDEFGH")
CPUS = 4
MEM_MAP = 0xC1000000
"""Where the struct pages lie in this machine; a real one has them wherever there was room."""

HELP = """\
kmap PAGE      map page number PAGE of high memory; runs until it is done or asleep
kunmap PAGE    take one user away; wakes who sleeps, and "run" lets them go on
flush          kmap_flush_unused: unmap what nobody uses
lowmem PAGE    kmap of a page of low memory, which needs no slot
start WORD ..  only begin a kmap, kunmap or flush
step           go on to the next store that others can see
run            go on until it is done or asleep; without a thread: everybody, in turns
Before a word "B:" says which thread, A to H, does it; else it is A."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a script, taken apart."""

    thread: str | None
    word: str
    page: int | None
    start: bool


def parse(text: str) -> Line | None:
    """A line taken apart; ``None`` if there is nothing on it.

    :raises UsageError: if it is not of the language
    """
    words = text.partition("#")[0].replace(":", ": ").split()
    thread = None
    if words and words[0].endswith(":"):
        thread = words.pop(0)[:-1]
        if thread not in NAMES:
            raise UsageError(f"there is no thread {thread!r}", hint="threads are A to H")
    elif not words:
        return None
    start = words[:1] == ["start"]
    if start:
        words.pop(0)
    word = words.pop(0) if words else ""
    if word not in (STARTABLE if start else WORDS):
        known = ", ".join(STARTABLE if start else WORDS)
        raise UsageError(
            f"{word!r} is no operation" if word else "an operation is missing", hint=f"there are {known}"
        )
    if len(words) != WORDS[word]:
        raise UsageError(f"{word} takes {'one page number' if WORDS[word] else 'no page number'}")
    return Line(thread, word, _number(words[0]) if words else None, start)


WORDS = {"kmap": 1, "kunmap": 1, "flush": 0, "lowmem": 1, "step": 0, "run": 0}
"""How many page numbers each takes."""
STARTABLE = ("kmap", "kunmap", "flush")


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and int(word) < 1 << 20):
        raise UsageError(f"{word!r} is no page number", hint="pages are 0 to 1048575")
    return int(word)


class Machine:
    """Threads A to H on four CPUs, and a table of so many slots."""

    def __init__(self, area: PkmapArea, era: Era, page_offset: int) -> None:
        self.first_highmem = MEM_MAP + (era.page_struct_size << 20)
        self._page_struct_size = era.page_struct_size
        table = PkmapTable(
            area,
            era,
            nr_cpus=CPUS,
            highmem=lambda page: page >= self.first_highmem,
            lowmem_address=lambda page: page_offset + (page - MEM_MAP) // self._page_struct_size * PAGE_SIZE,
        )
        self.threads = PkmapThreads(table, NAMES)

    def number(self, page: int) -> int:
        """The number of a highmem page whose struct page is at an address."""
        return (page - self.first_highmem) // self._page_struct_size

    def do(self, line: Line) -> str:
        """Do what a line says; returns what came of it.

        :raises UsageError: if the thread cannot
        :raises KernelBug: if a BUG_ON holds
        """
        threads, name = self.threads, line.thread or NAMES[0]
        if line.word == "step":
            return f"{name}: {threads.step(name)}"
        if line.word == "run":
            return self._run(line.thread)
        page = self._page_struct_size * (line.page or 0)
        call: dict[str, Callable[[], None]] = {
            "kmap": lambda: threads.kmap(name, self.first_highmem + page),
            "kunmap": lambda: threads.kunmap(name, self.first_highmem + page),
            "flush": lambda: threads.kmap_flush_unused(name),
            "lowmem": lambda: threads.kmap(name, MEM_MAP + page),
        }
        call[line.word]()
        if line.start:
            return f"{name} begins"
        if line.word == "lowmem":
            return f"{name} has it at {threads.threads[name].address:08x}, as ever"
        return self._finish(name)

    def _run(self, name: str | None) -> str:
        if name is None:
            self.threads.settle()
            return (
                "nobody can go on"
                if not self.threads.deadlocked
                else "deadlock: all who could wake others sleep"
            )
        reason = self.threads.blocked(name)
        if reason:
            raise UsageError(reason)
        return self._finish(name)

    def _finish(self, name: str) -> str:
        thread = self.threads.threads[name]
        what = thread.section
        self.threads.finish(name)
        reason = self.threads.blocked(name)
        if thread.section:
            return reason
        if what in ("kmap_high", "remove_wait_queue"):
            return f"{name} has page {self.number(thread.page)} at {thread.address:08x}"
        return f"{name} is done"

    def situation(self, thread: Thread) -> str:
        """What a thread does now, in a word or two."""
        if thread.state == UNINTERRUPTIBLE:
            return f"sleeps for page {self.number(thread.page)}"
        return f"in {thread.section}" if thread.section else "idle"

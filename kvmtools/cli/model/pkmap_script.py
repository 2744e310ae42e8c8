"""The line language of ``kvmtools model pkmap``, and the machine that its lines drive.

A line is ``[THREAD:] WORD [PAGE]``; what follows a ``#`` is a comment.  Pages are numbers, 3 or 0x3: those of high
memory are the machine's own and begin with 0, whatever a real machine's pfns would be; for ``lowmem`` they are pfns.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kvmtools.errors import UsageError
from kvmtools.model.eras import Era
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import UNINTERRUPTIBLE, PkmapThreads, Thread
from kvmtools.records import PAGE_SIZE

NAMES = tuple("ABCDEFGH")
CPUS = 4
MEM_MAP = 0xC1000000
"""Where the struct pages lie in this machine; a real one has them wherever there was room."""

HELP = """\
kmap PAGE      map a highmem page; runs until it is done or asleep
kunmap PAGE    take one user away; wakes who sleeps, and "run" lets them go on
flush          kmap_flush_unused: unmap what nobody uses
lowmem PAGE    kmap of a page of low memory, which needs no slot; here PAGE is a pfn
interrupt      the thread is an interrupt from now on, which must call neither kmap nor kunmap
start WORD ..  only begin a kmap, kunmap or flush
step           go on to the next store that others can see
run            go on until it is done or asleep; without a thread: everybody, in turns
help, h, ?     this; quit, exit, q or Ctrl-D leave, Ctrl-C drops the line
Before a word "B:" says which thread, A to H, does it; else it is A.  A "#" begins a comment.
A PAGE is a number, 3 or 0x3: highmem pages are numbered from 0 and are no pfns."""

DEADLOCK = "deadlock, unless another thread unmaps a page"
"""A mapping may be handed over: anybody can take its user away."""


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """One line of a script, taken apart."""

    thread: str | None
    word: str
    page: int | None
    start: bool


def code(text: str) -> str:
    """What a line says, without its comment."""
    return " ".join(text.partition("#")[0].split())


def parse(text: str) -> ScriptLine | None:
    """A line taken apart; ``None`` if there is nothing on it.

    :raises UsageError: if it is not of the language
    """
    words = code(text).replace(":", ": ").split()
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
    return ScriptLine(thread, word, _number(words[0]) if words else None, start)


WORDS = {"kmap": 1, "kunmap": 1, "flush": 0, "lowmem": 1, "interrupt": 0, "step": 0, "run": 0}
"""How many page numbers each takes."""
STARTABLE = ("kmap", "kunmap", "flush")


PAGES = 1 << 20
"""How many pages of high memory there are to name."""
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,16}")


def _number(word: str) -> int:
    number = PAGES
    if _NUMBER.fullmatch(word):
        number = int(word, 16 if word[:2] in ("0x", "0X") else 10)
    if number >= PAGES:
        raise UsageError(f"{word!r} is no page number", hint=f"pages are 0 to {PAGES - 1} or {PAGES - 1:#x}")
    return number


class ScriptedPkmap:
    """Threads A to H on four CPUs, and a table of so many slots.

    :param lowmem_pages: the first pfn of high memory
    """

    def __init__(self, area: PkmapArea, era: Era, page_offset: int, lowmem_pages: int) -> None:
        self.lowmem_pages = lowmem_pages
        self.first_highmem = MEM_MAP + era.page_struct_size * PAGES
        self._page_struct_size = era.page_struct_size
        table = PkmapTable(
            area,
            era,
            nr_cpus=CPUS,
            highmem=lambda page: page >= self.first_highmem,
            lowmem_address=lambda page: page_offset + (page - MEM_MAP) // self._page_struct_size * PAGE_SIZE,
            page_name=lambda page: str(self.number(page)),
        )
        self.threads = PkmapThreads(table, NAMES)

    def number(self, page: int) -> int:
        """The number of a highmem page whose struct page is at an address."""
        return (page - self.first_highmem) // self._page_struct_size

    def do(self, line: ScriptLine) -> str:
        """Do what a line says; returns what came of it.

        :raises UsageError: if the thread cannot, or the page is not where the word wants it
        :raises KernelBug: if a BUG_ON holds
        """
        threads, name = self.threads, line.thread or NAMES[0]
        if line.word == "step":
            return f"{name}: {threads.step(name)}"
        if line.word == "run":
            return self._run_all() if line.thread is None else self._run(line.thread)
        if line.word == "interrupt":
            threads.interrupt(name)
            return f"{name} is an interrupt from now on"
        number = line.page or 0
        page = self._page_struct_size * number
        if line.word == "lowmem":
            return self._lowmem(name, number, MEM_MAP + page)
        call: dict[str, Callable[[], None]] = {
            "kmap": lambda: threads.kmap(name, self.first_highmem + page),
            "kunmap": lambda: threads.kunmap(name, self.first_highmem + page),
            "flush": lambda: threads.kmap_flush_unused(name),
        }
        call[line.word]()
        return f"{name} begins" if line.start else self._finish(name)

    def _lowmem(self, name: str, pfn: int, page: int) -> str:
        if pfn >= self.lowmem_pages:
            raise UsageError(
                f"pfn {pfn:#x} is not in low memory", hint=f"that is pfn 0 to {self.lowmem_pages - 1:#x} here"
            )
        self.threads.kmap(name, page)
        return f"{name} has it at {self.threads.threads[name].address:08x}, as ever"

    def _run(self, name: str) -> str:
        reason = self.threads.blocked(name)
        if reason:
            raise UsageError(reason)
        return self._finish(name)

    def _finish(self, name: str) -> str:
        section = self.threads.threads[name].section
        self.threads.finish(name)
        return self._came_of(name, section)

    def _run_all(self) -> str:
        """Let everybody run; what came of each who could, or why nobody can."""
        sections = {name: thread.section for name, thread in self.threads.threads.items()}
        said = [self._came_of(name, sections[name]) for name in self.threads.settle()]
        if self.threads.deadlocked:
            said.append(DEADLOCK)
        elif not said:
            said = [f"{thread.name} {self.situation(thread)}" for thread in self.threads.sleepers]
        return "; ".join(said) or "all are done"

    def _came_of(self, name: str, section: str) -> str:
        """What came of a thread that went on from a section as far as it could."""
        thread = self.threads.threads[name]
        if thread.section:
            return self.threads.blocked(name)
        if section in ("kmap_high", "remove_wait_queue"):
            return f"{name} has page {self.number(thread.page)} at {thread.address:08x}"
        return f"{name} is done"

    def situation(self, thread: Thread) -> str:
        """What a thread does now, in a word or two."""
        if thread.state == UNINTERRUPTIBLE:
            return f"sleeps for page {self.number(thread.page)}"
        return f"in {thread.section}" if thread.section else "idle"

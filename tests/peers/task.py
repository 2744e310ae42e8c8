"""What every peer is asked to do, and how its answers and times are told.

A peer is a program that gets a task on stdin and prints its answers on stdout: each runs on the Python that has its
library.  Whoever cannot do a thing leaves it out; an answer that differs from ours is shown as such, however quick.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from statistics import median
from typing import Any

TRANSLATE, WALK, SCAN, READ = (
    "one translation",
    "walk of the kernel's half",
    "mem_map, whole",
    "64 MiB of lowmem",
)
ROWS = (TRANSLATE, WALK, SCAN, READ)
PAGE_OFFSET = 0xC0000000
PG_RESERVED = "PG_reserved"


@dataclass(frozen=True)
class Task:
    """Everything is of one core, whose guest was stopped.

    :ivar root: physical address of ``swapper_pg_dir``
    :ivar ram: guest-physical ``[start, end)`` of its RAM; of what a walk finds, only what leads there counts
    :ivar addresses: kernel addresses that are mapped to it, no two in one page
    :ivar map_start: virtual address of FLATMEM's ``mem_map``, with ``map_pages`` entries of ``page_size`` bytes
    :ivar reserved: mask of PG_reserved in ``page->flags``
    :ivar read: virtual address of the bytes that are read in bulk, in lowmem
    :ivar qmp: monitor of the guest, which still stands as it was when the core was written
    """

    core: str
    vmlinux: str
    pae: bool
    root: int
    ram: tuple[tuple[int, int], ...]
    addresses: tuple[int, ...]
    map_start: int
    map_pages: int
    page_size: int
    reserved: int
    read: int
    read_size: int
    qmp: str

    def is_ram(self, physical: int) -> bool:
        return any(start <= physical < end for start, end in self.ram)

    def text(self) -> str:
        return json.dumps(asdict(self))


def given() -> Task:
    """The task on stdin."""
    return Task(**json.load(sys.stdin))


def tell(answers: dict[str, Callable[[], Any]], *, per: dict[str, int] | None = None) -> None:
    """Do each row some times, and print what it answered and its median time in seconds, of one of ``per``."""
    told = {}
    for row, work in answers.items():
        try:
            answer = work()  # once to get warm
            times = []
            while len(times) < 5 and sum(times) < 5:
                start = time.perf_counter()
                answer = work()
                times.append(time.perf_counter() - start)
            told[row] = {
                "answer": sha256(answer).hexdigest() if isinstance(answer, bytes) else answer,
                "seconds": median(times) / (per or {}).get(row, 1),
            }
        except Exception as error:
            told[row] = {"failed": f"{type(error).__name__}: {error}"}
    json.dump(told, sys.stdout)

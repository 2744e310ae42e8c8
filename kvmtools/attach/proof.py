"""No transport is believed before it has shown the same bytes as a second one.

The traps are real: physical addresses above 4 GiB that wrap at 2**32 and answer with another page, a RAM
file read as if it had no PCI hole, another guest's file.  So the pages compared are chosen to *tell*: above
4 GiB each must differ from the page that a wrapped address would lead to.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from kvmtools.attach.memory.physical import FOUR_GIB, PhysicalMemory, SegmentedMemory
from kvmtools.errors import AttachError, MemoryFault
from kvmtools.records import PAGE_SIZE, Range

PAGES = 4
"""Pages compared on each side of 4 GiB."""
_CHUNK = 256
_SEEDS = 1_000_000
_ATTEMPTS = 8
_ZERO = bytes(PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Proof:
    """How many pages agreed, how many of them above 4 GiB, and how many held nothing but zeros."""

    witness: str
    pages: int
    above: int
    zero: int
    seed: int

    def __str__(self) -> str:
        above = f", {self.above} above 4 GiB" if self.above else ""
        zero = f", {self.zero} all zero" if self.zero else ""
        return f"proved against {self.witness}: {self.pages} pages{above}{zero}, seed {self.seed}"


def prove(
    candidate: SegmentedMemory,
    witness: PhysicalMemory,
    *,
    tries: int = 256,
    seed: int | None = None,
    suspected: bool = False,
) -> Proof:
    """Compare pages of two transports to the same guest, which may be running.

    :param tries: how many pages of ``candidate`` to look at, on each side of 4 GiB, for some that tell
    :param seed: chooses among them: the same one looks at the same pages of the same memory; without one, any
    :param suspected: whether ``candidate`` is known to wrap at times: then two pages of zeros above 4 GiB prove nothing
    :raises AttachError: if they disagree, or no page stood still long enough to be compared
    """
    seed = secrets.randbelow(_SEEDS) if seed is None else seed
    chooser = random.Random(seed)
    pages = above = zero = 0
    for area in _areas(candidate.ranges):
        settled = told = 0
        for address in _telling_chunks(candidate, witness, area, tries, chooser):
            if settled == PAGES:
                break
            verdict = _same(candidate, witness, address)
            if verdict is False:
                raise AttachError(f"{candidate.name} and {witness.name} differ at {address:#x} (seed {seed})")
            if verdict:
                settled += 1
                page = address & -PAGE_SIZE
                told += candidate.read(page, PAGE_SIZE) != _wrapped(candidate, page)
                zero += candidate.read(page, PAGE_SIZE) == _ZERO
        if suspected and not told and area[0].start >= FOUR_GIB:
            raise AttachError(f"{candidate.name} is unproved above 4 GiB: no page tells (seed {seed})")
        if not settled:
            raise AttachError(
                f"{candidate.name} is unproved: no page at {area[0].start:#x} or above stands still (seed {seed})"
            )
        pages += settled
        above += settled if area[0].start >= FOUR_GIB else 0
    return Proof(witness.name, pages, above, zero, seed)


def _areas(ranges: tuple[Range, ...]) -> Iterator[list[Range]]:
    """The RAM below and, if there is any, the RAM above 4 GiB."""
    for low, high in ((0, FOUR_GIB), (FOUR_GIB, 1 << 64)):
        area = [Range(max(r.start, low), min(r.end, high)) for r in ranges if r.start < high and r.end > low]
        if area:
            yield area


def _telling_chunks(
    candidate: SegmentedMemory,
    witness: PhysicalMemory,
    area: list[Range],
    tries: int,
    chooser: random.Random,
) -> Iterator[int]:
    """Addresses to compare: first where a wrong transport would show, last where it would not.

    A page equal to the one that a wrapped address leads to tells little if the guest wrote both alike, and all if the
    transport itself wraps: then there is no other kind, and the witness says where in it to look.
    """
    zero = []
    alike = []
    for page in _samples(candidate, area, tries, chooser):
        data = candidate.read(page, PAGE_SIZE)
        if data == _ZERO:
            zero.append(page)
        elif (offset := _first_difference(data, _wrapped(candidate, page))) is not None:
            yield page + offset
        else:
            alike.append(page)
    for page in alike[:PAGES]:
        yield page + _doubtful(candidate, witness, page)
    indifferent = []
    for page in zero:
        offset = _first_difference(_ZERO, _wrapped(candidate, page))
        if offset is None:
            indifferent.append(page)
        else:
            yield page + offset
    for page in indifferent:
        yield page + _doubtful(candidate, witness, page)


def _doubtful(candidate: PhysicalMemory, witness: PhysicalMemory, page: int) -> int:
    """Where in a page the two differ now, which may be the guest's doing; its beginning if they do not."""
    return _first_difference(candidate.read(page, PAGE_SIZE), witness.read(page, PAGE_SIZE)) or 0


def _first_difference(one: bytes, other: bytes) -> int | None:
    return next(
        (i for i in range(0, PAGE_SIZE, _CHUNK) if one[i : i + _CHUNK] != other[i : i + _CHUNK]), None
    )


def _wrapped(memory: PhysicalMemory, page: int) -> bytes:
    """What would be read at ``page`` if only 32 bits of the address counted; zeros where that is no
    mistake."""
    if page < FOUR_GIB:
        return _ZERO
    try:
        return memory.read(page % FOUR_GIB, PAGE_SIZE)
    except MemoryFault:
        return _ZERO


def _samples(memory: SegmentedMemory, area: list[Range], tries: int, chooser: random.Random) -> Iterator[int]:
    """Distinct pages: a third anywhere, two thirds on all scales near the two ends, which are filled first."""
    total = sum(len(part) for part in area) // PAGE_SIZE
    seen = set()
    for number in range(tries):
        distance = int(total ** chooser.random()) - 1
        nth = (distance, total - 1 - distance, chooser.randrange(total))[number % 3]
        page = memory.next_data(_nth_page(area, nth)) & -PAGE_SIZE
        if page not in seen:
            seen.add(page)
            yield page


def _nth_page(area: list[Range], nth: int) -> int:
    for part in area:
        if nth * PAGE_SIZE < len(part):
            return part.start + nth * PAGE_SIZE
        nth -= len(part) // PAGE_SIZE
    raise IndexError(nth)


def _same(candidate: PhysicalMemory, witness: PhysicalMemory, address: int) -> bool | None:
    """Whether both show the same bytes; None if they never stand still.

    The guest may write in between: only bytes that are *stable and different* disprove.
    """
    before = seen_before = None
    for _ in range(_ATTEMPTS):
        mine = candidate.read(address, _CHUNK)
        seen = witness.read(address, _CHUNK)
        if seen == mine or seen == candidate.read(address, _CHUNK):
            return True
        if mine == before and seen == seen_before:
            return False
        before, seen_before = mine, seen
    return None

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from kvmtools.attach.memory.physical import FOUR_GIB, Segment, SegmentedMemory
from kvmtools.attach.proof import prove
from kvmtools.errors import AttachError
from kvmtools.records import PAGE_SIZE

PAGES = 64
END = PAGES * PAGE_SIZE
SMALL = [Segment(0, END, 0)]
LARGE = [*SMALL, Segment(FOUR_GIB, FOUR_GIB + END, END)]


class Memory(SegmentedMemory):
    def __init__(self, name: str, segments: list[Segment], byte: Callable[[int], int]) -> None:
        super().__init__(segments)
        self.name = name
        self.byte = byte

    def close(self) -> None:
        pass

    def _copy(self, offset: int, buffer: memoryview) -> None:
        """Each page is full of one byte."""
        for at in range(len(buffer)):
            buffer[at] = self.byte((offset + at) // PAGE_SIZE)


def both(page: int) -> int:
    return page % 251 + 1


def test_equal_transports_are_proved_on_both_sides_of_4_gib() -> None:
    proof = prove(Memory("ram-file", LARGE, both), Memory("xp", LARGE, both), seed=7)
    assert (proof.pages, proof.above, proof.zero) == (8, 4, 0)
    assert str(proof) == "proved against xp: 8 pages, 4 above 4 GiB, seed 7"


def test_a_small_guest_has_nothing_above() -> None:
    proof = prove(Memory("a", SMALL, both), Memory("b", SMALL, both), seed=0)
    assert str(proof) == "proved against b: 4 pages, seed 0"


def test_pages_of_zeros_are_counted() -> None:
    proof = prove(Memory("a", SMALL, lambda page: 0), Memory("b", SMALL, lambda page: 0), seed=3)
    assert str(proof) == "proved against b: 4 pages, 4 all zero, seed 3"


class Watched(Memory):
    """Remembers where it was read."""

    def __init__(self) -> None:
        super().__init__("xp", LARGE, both)
        self.read_at: list[int] = []

    def _copy(self, offset: int, buffer: memoryview) -> None:
        self.read_at.append(offset)
        super()._copy(offset, buffer)


def test_the_seed_that_is_told_chooses_the_same_pages_again() -> None:
    witnesses = [Watched() for _ in range(5)]
    first = prove(Memory("a", LARGE, both), witnesses[0])
    again = prove(Memory("a", LARGE, both), witnesses[1], seed=first.seed)
    assert witnesses[1].read_at == witnesses[0].read_at
    assert again == first
    others = [prove(Memory("a", LARGE, both), witness).seed for witness in witnesses[2:]]
    assert len({first.seed, *others}) > 1
    assert any(witness.read_at != witnesses[0].read_at for witness in witnesses[2:])


def test_a_disagreement_tells_its_seed() -> None:
    wrapping = Memory("gdb", LARGE, lambda page: both(page % PAGES))
    with pytest.raises(AttachError, match="seed 11") as first:
        prove(wrapping, Memory("xp", LARGE, both), seed=11)
    with pytest.raises(AttachError) as second:
        prove(wrapping, Memory("xp", LARGE, both), seed=11)
    assert str(first.value) == str(second.value)


def test_a_transport_that_wraps_at_4_gib_is_refused() -> None:
    wrapping = Memory("gdb", LARGE, lambda page: both(page % PAGES))
    with pytest.raises(AttachError, match=r"gdb and xp differ at 0x1000\w+"):
        prove(wrapping, Memory("xp", LARGE, both))


def test_wrapping_shows_even_if_the_true_pages_are_zero() -> None:
    truth = Memory("xp", LARGE, lambda page: both(page) if page < PAGES else 0)
    with pytest.raises(AttachError, match="differ at 0x1000"):
        prove(Memory("gdb", LARGE, lambda page: both(page % PAGES)), truth)


def test_a_file_read_as_if_it_had_no_hole_is_refused() -> None:
    shifted = Memory("ram-file", LARGE, lambda page: both(page + (page >= PAGES)))
    with pytest.raises(AttachError, match="ram-file and xp differ"):
        prove(shifted, Memory("xp", LARGE, both))


class Detailed(Memory):
    """Pages that are alike but for some bytes in the middle of those below 4 GiB."""

    AT = 0x540

    def _copy(self, offset: int, buffer: memoryview) -> None:
        for at in range(len(buffer)):
            page, inside = divmod(offset + at, PAGE_SIZE)
            below = self.byte(page) < PAGES
            buffer[at] = 0xEE if below and self.AT <= inside < self.AT + 8 else 0x11


def test_a_page_is_compared_where_a_wrapped_one_would_differ() -> None:
    """Beginnings of pages are often alike, in the true memory as in the one that a wrapped address shows."""
    truth, wrapping = Detailed("xp", LARGE, int), Detailed("gdb", LARGE, lambda page: page % PAGES)
    for seed in range(5):
        with pytest.raises(AttachError, match=r"gdb and xp differ at 0x1000\w\w500 "):
            prove(wrapping, truth, seed=seed)


def test_zeros_do_not_clear_a_suspect() -> None:
    """Two pages of zeros are alike, whether an address wraps or not."""
    empty = [Memory(name, LARGE, lambda _page: 0) for name in ("gdbstub", "xp")]
    assert prove(*empty).zero
    with pytest.raises(AttachError, match="gdbstub is unproved above 4 GiB: no page tells"):
        prove(*empty, suspected=True)
    assert prove(Memory("gdbstub", LARGE, both), Memory("xp", LARGE, both), suspected=True).above == 4
    small = [Memory(name, SMALL, lambda _page: 0) for name in ("gdbstub", "xp")]
    assert prove(*small, suspected=True).pages, "nothing of it is above"


def test_a_running_guest_may_write_in_between() -> None:
    ticks = itertools.count()
    clock = {0: 1}

    def ticking(page: int) -> int:
        # Every page changes now and then, the same for both.
        if next(ticks) % 1777 == 0:
            clock[0] = clock[0] % 250 + 1
        return clock[0]

    proof = prove(Memory("a", SMALL, ticking), Memory("b", SMALL, ticking))
    assert proof.pages == 4


def test_memory_that_never_stands_still_proves_nothing() -> None:
    ticks = itertools.count()
    with pytest.raises(AttachError, match="stands still"):
        prove(
            Memory("a", SMALL, lambda page: next(ticks) % 251 + 1),
            Memory("b", SMALL, lambda page: next(ticks) % 241 + 1),
            tries=8,
        )

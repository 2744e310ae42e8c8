"""Frames from the top down, beside a plain set of free pfns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmtools.errors import UsageError
from kvmtools.model.memory.memblock import Memblock
from kvmtools.records import Range

RAM = (Range(1, 10), Range(16, 40))


def pfns(*ranges: Range) -> set[int]:
    return {pfn for r in ranges for pfn in range(r.start, r.end)}


def test_the_highest_piece_is_taken() -> None:
    frames = Memblock(RAM)
    assert frames.take(4, Range(0, 100)) == Range(36, 40)
    assert frames.take(4, Range(0, 100)) == Range(32, 36)
    assert frames.free == (Range(1, 10), Range(16, 32))


def test_a_piece_must_be_free_within_and_aligned() -> None:
    frames = Memblock(RAM)
    assert frames.take(4, Range(0, 39), align=4) == Range(32, 36)
    assert frames.free == (Range(1, 10), Range(16, 32), Range(36, 40))
    assert frames.take(9, Range(0, 16)) == Range(1, 10)
    assert frames.take(16, Range(0, 100)) == Range(16, 32)


def test_a_piece_that_fills_a_range_can_be_taken_and_one_more_page_cannot() -> None:
    assert Memblock(RAM).take(24, Range(0, 100)) == Range(16, 40)
    with pytest.raises(
        UsageError, match=r"no room for 100 KiB in one piece between pfn 0x0 and 0x64"
    ) as caught:
        Memblock(RAM).take(25, Range(0, 100))
    assert "could not boot" in caught.value.hint


def test_alignment_counts_from_pfn_0() -> None:
    assert Memblock((Range(3, 9),)).take(4, Range(0, 100), align=4) == Range(4, 8)
    with pytest.raises(UsageError):
        Memblock((Range(5, 11),)).take(4, Range(0, 100), align=4)


def test_what_is_reserved_is_gone() -> None:
    frames = Memblock(RAM)
    frames.reserve(Range(5, 20))
    assert frames.free == (Range(1, 5), Range(20, 40))
    frames.reserve(Range(0, 3))
    frames.reserve(Range(50, 60))
    frames.reserve(Range(7, 8))
    frames.reserve(Range(30, 30))
    assert frames.free == (Range(3, 5), Range(20, 40))


def test_ram_may_reach_as_far_as_a_processor_can_address() -> None:
    frames = Memblock((Range(0, 1 << 40),))
    frames.reserve(Range(0, 1))
    assert frames.free == (Range(1, 1 << 40),)


def test_pieces_are_scraped_from_the_top() -> None:
    frames = Memblock(RAM)
    assert frames.scrape(26, Range(0, 100)) == [Range(16, 40), Range(8, 10)]
    assert frames.free == (Range(1, 8),)
    assert frames.scrape(9, Range(0, 100)) == [Range(1, 8)]
    assert frames.scrape(1, Range(0, 100)) == []


def test_scraped_pieces_are_aligned_at_both_ends() -> None:
    frames = Memblock((Range(1, 11), Range(13, 15), Range(17, 30)))
    assert frames.scrape(100, Range(0, 100), align=4) == [Range(20, 28), Range(4, 8)]
    assert frames.free == (Range(1, 4), Range(8, 11), Range(13, 15), Range(17, 20), Range(28, 30))


ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda ends: Range(min(ends), max(ends)))


@settings(deadline=None)
@given(
    st.lists(ranges, max_size=4),
    st.lists(st.tuples(st.integers(1, 12), ranges, st.sampled_from([1, 2, 4])), max_size=6),
)
def test_a_set_of_pfns_agrees(reserved: list[Range], wishes: list[tuple[int, Range, int]]) -> None:
    frames, free = Memblock(RAM), pfns(*RAM)
    for r in reserved:
        frames.reserve(r)
        free -= pfns(r)
    for pages, within, align in wishes:
        starts = [
            start
            for start in range(within.start, within.end - pages + 1)
            if start % align == 0 and pfns(Range(start, start + pages)) <= free
        ]
        if starts:
            assert frames.take(pages, within, align=align) == Range(max(starts), max(starts) + pages)
            free -= pfns(Range(max(starts), max(starts) + pages))
        else:
            with pytest.raises(UsageError):
                frames.take(pages, within, align=align)
        assert pfns(*frames.free) == free

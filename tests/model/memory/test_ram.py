"""RAM out of the firmware's map and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.errors import UsageError
from kvmtools.model import eras, machine
from kvmtools.model.memory import ram
from kvmtools.model.memory.ram import Ram
from kvmtools.records import PAGE_SIZE, Configuration, E820Entry, Range

MIB, GIB = 1 << 20, 1 << 30
PAGES_PER_MIB = 256

Configure = Callable[..., Configuration]


def test_what_qemu_gives_to_a_guest_of_2_gib(configure: Configure) -> None:
    """[R]: page 0 is reserved, the EBDA's partial page is dropped, the BIOS area is no RAM."""
    found = ram.usable(configure())
    assert found.ranges == (Range(1, 0x9F), Range(0x100, 0x7FFE0))
    assert found.end_pfn == 0x7FFE0
    assert 0 not in found
    assert 0x9E in found
    assert 0x9F not in found
    assert 0x7FFE0 not in found


def test_ram_above_4_gib_is_seen_by_pae_only(configure: Configure) -> None:
    high = ram.usable(configure(memory=6 * GIB))
    assert high.end_pfn == 0x1C0000
    assert high.ranges[-1] == Range(0x100000, 0x1C0000)
    low = ram.usable(configure(pae=False, memory=6 * GIB))
    assert low.end_pfn == 0xBFFE0
    assert low.ranges[-1].end == 0xBFFE0


def test_an_entry_across_4_gib_is_lost_whole_without_pae(configure: Configure) -> None:
    """Its end does not fit phys_addr_t, yet max_pfn counts it (e820__memblock_setup, e820_end_pfn)."""
    table = (E820Entry(0, 640 << 10, 1), E820Entry(MIB, GIB, 1), E820Entry(2 * GIB, 3 * GIB, 1))
    found = ram.usable(configure(pae=False, e820=table))
    assert found.ranges[-1] == Range(256, 256 + GIB // 4096)
    assert found.end_pfn == 1 << 20
    assert ram.usable(configure(e820=table)).ranges[-1] == Range(0x80000, 0x140000)


def test_pae_ends_at_36_bits(configure: Configure) -> None:
    table = (E820Entry(0, 640 << 10, 1), E820Entry(MIB, 80 * GIB, 1))
    assert ram.usable(configure(e820=table)).end_pfn == 1 << 24


@pytest.mark.parametrize(
    ("command_line", "ranges"),
    [
        ("mem=512M", [(1, 0x9F), (0x100, 512 * PAGES_PER_MIB)]),
        ("mem=nopentium", [(1, 0x9F), (0x100, 0x7FFE0)]),
        ("mem=junk", [(1, 0x9F), (0x100, 0x7FFE0)]),
        ("memmap=512M", [(1, 0x9F), (0x100, 512 * PAGES_PER_MIB)]),
        ("memmap=junk", [(1, 0x9F), (0x100, 0x7FFE0)]),
        ("memmap=16M$64M", [(1, 0x9F), (0x100, 0x4000), (0x5000, 0x7FFE0)]),
        ("memmap=16M#64M", [(1, 0x9F), (0x100, 0x4000), (0x5000, 0x7FFE0)]),
        ("memmap=16M!64M", [(1, 0x9F), (0x100, 0x4000), (0x5000, 0x7FFE0)]),
        ("memmap=1M$64M,1M$128M", [(1, 0x9F), (0x100, 0x4000), (0x4100, 0x8000), (0x8100, 0x7FFE0)]),
        ("memmap=6K$0x4000800", [(1, 0x9F), (0x100, 0x4000), (0x4002, 0x7FFE0)]),
        ("memmap=512M memmap=128M@1G", [(1, 0x9F), (0x100, 0x20000), (0x40000, 0x48000)]),
        ("memmap=128M@1G mem=512M", [(1, 0x9F), (0x100, 0x20000)]),
        ("memmap=exactmap memmap=639K@0 memmap=255M@1M", [(1, 0x9F), (0x100, 0x10000)]),
        ("memmap=exactmap,639K@0,255M@1M", [(1, 0x9F), (0x100, 0x10000)]),
        ("memmap=16M%64M-1+2", [(1, 0x9F), (0x100, 0x4000), (0x5000, 0x7FFE0)]),
        ("memmap=16M%64M+2", [(1, 0x9F), (0x100, 0x4000), (0x5000, 0x7FFE0)]),
        ("memmap=16M%64M-1", [(1, 0x9F), (0x100, 0x4000), (0x5000, 0x7FFE0)]),
        ("memmap=16M%64M", [(1, 0x9F), (0x100, 0x4000), (0x5000, 0x7FFE0)]),
        ("memmap=16M%64M-1+2x", [(1, 0x9F), (0x100, 0x7FFE0)]),
        ("memmap=16M%64M-2+3", [(1, 0x9F), (0x100, 0x7FFE0)]),
        ("memmap=16M%64M-1x2", [(1, 0x9F), (0x100, 0x7FFE0)]),
        ("memmap=16M%3G+1", [(1, 0x9F), (0x100, 0x7FFE0), (0xC0000, 0xC1000)]),
        ("memmap=64K@960K", [(1, 0x9F), (0x100, 0x7FFE0)]),
    ],
)
def test_the_command_line_edits_the_map(
    configure: Configure, command_line: str, ranges: list[tuple[int, int]]
) -> None:
    found = ram.usable(configure(command_line=command_line))
    assert found.ranges == tuple(Range(*r) for r in ranges)
    assert found.end_pfn == ranges[-1][1]


@pytest.mark.parametrize(
    ("era", "command_line", "ranges"),
    [
        # setup.c of 2.4.18: mem= does what memmap= did from 2.6 on; memmap= was not there.
        ("2.4", "mem=exactmap mem=640K@0 mem=255M@1M", [(0, 0xA0), (0x100, 0x10000)]),
        ("2.4", "mem=512M mem=128M@1G", [(0, 0x9F), (0x100, 0x20000), (0x40000, 0x48000)]),
        ("2.4", "mem=nopentium", [(0, 0x9F), (0x100, 0x7FFE0)]),
        ("2.4", "memmap=exactmap memmap=16M$64M memmap=512M", [(0, 0x9F), (0x100, 0x7FFE0)]),
        # Later mem= looks at nothing but the size.
        ("2.6.18", "mem=512M@1G", [(0, 0x9F), (0x100, 0x20000)]),
        ("2.6.18", "mem=exactmap", [(0, 0x9F), (0x100, 0x7FFE0)]),
        # What an era does not know between size and start is as if nothing stood there.
        ("2.6.32", "memmap=1G!64M", [(0, 0x9F), (0x100, 0x40000)]),
        ("2.6.32", "memmap=1G%64M", [(0, 0x9F), (0x100, 0x40000)]),
        # Lists came with 3.10.
        ("2.6.32", "memmap=1M$64M,1M$128M", [(0, 0x9F), (0x100, 0x4000), (0x4100, 0x7FFE0)]),
        ("5.10", "memmap=1M$64M,1M$128M", [(1, 0x9F), (0x100, 0x4000), (0x4100, 0x8000), (0x8100, 0x7FFE0)]),
    ],
)
def test_eras_edit_the_map_differently(era: str, command_line: str, ranges: list[tuple[int, int]]) -> None:
    found = ram.usable(machine.configuration(era, memory=2 * GIB, command_line=command_line))
    assert found.ranges == tuple(Range(*r) for r in ranges)


def test_what_a_separator_makes_of_memory(configure: Configure) -> None:
    """E820_TYPE_PRAM is 12, E820_TYPE_ACPI 3: turned back into RAM by these numbers, nothing has happened."""
    untouched = ram.usable(configure())
    for edit in ("memmap=16M!64M memmap=16M%64M-12+1", "memmap=16M#64M memmap=16M%64M-3+1"):
        assert ram.usable(configure(command_line=edit)) == untouched


def test_mem_forgets_all_above(configure: Configure) -> None:
    far = E820Entry(1 << 63, MIB, 1)
    table = (*configure().e820, far)
    assert Range(1 << 51, (1 << 51) + PAGES_PER_MIB) in ram.usable(configure(e820=table)).ranges
    assert ram.usable(configure(e820=table, command_line="mem=4G")) == ram.usable(configure())


def test_memory_of_the_boot_loaders_data_is_ram(configure: Configure) -> None:
    """E820_TYPE_RESERVED_KERN joins its neighbours, so that no page is lost where they meet."""
    table = (
        E820Entry(0, 0x9F000, 1),
        E820Entry(MIB, 63 * MIB + 0x123, 1),
        E820Entry(64 * MIB + 0x123, 0x40, 128),
        E820Entry(64 * MIB + 0x163, 64 * MIB - 0x163, 1),
    )
    assert ram.usable(configure(e820=table)).ranges == (Range(1, 0x9F), Range(0x100, 0x8000))


def test_the_image_is_ram_whatever_the_map_says(configure: Configure) -> None:
    found = ram.usable(configure(command_line="memmap=64M$0"))
    start = 16 * PAGES_PER_MIB
    assert found.ranges == (Range(start, start + 0x720), Range(64 * PAGES_PER_MIB, 0x7FFE0))


def test_no_ram_is_refused(configure: Configure) -> None:
    with pytest.raises(UsageError, match="no usable RAM") as caught:
        ram.usable(
            configure(e820=(E820Entry(0, 64 * MIB, 2),), image=replace(configure().image, sections={}))
        )
    assert "memmap=" in caught.value.hint


pages = st.integers(0, 64).map(lambda n: n * MIB // 2)
edits = st.one_of(
    st.builds("mem={}K".format, st.integers(1, 200_000)),
    st.builds("memmap={}{}{}".format, pages, st.sampled_from("@$#!"), pages),
    st.builds("memmap={}%{}-{}".format, pages, pages, st.sampled_from([1, 2, 3])),
    st.builds("memmap={}%{}+{}".format, pages, pages, st.sampled_from([1, 2, 3])),
    st.builds("memmap={}%{}-{}+{}".format, pages, pages, st.just(1), st.sampled_from([2, 3])),
    st.just("memmap=exactmap"),
)


def edited(configuration: Configuration) -> Configuration:
    """The same, but that its map is the one in which the kernel has followed its command line already."""
    table: Any = ram._Table(configuration.e820)
    table.follow(configuration.command_line, eras.shown(configuration.marks))
    ram._trim(table, configuration)
    return replace(
        configuration, e820=tuple(E820Entry(e.start, e.end - e.start, e.type) for e in table.sanitized())
    )


@given(edits)
def test_an_edit_is_a_projection(configure: Configure, edit: str) -> None:
    first = configure(command_line=edit, memory=64 * MIB)
    assert ram.usable(edited(first)) == ram.usable(first)


def test_several_edits_need_not_be(configure: Configure) -> None:
    """What was made reserved to be made nothing of, the second time round: the map must be the firmware's."""
    words = "memmap=524288%0-2 memmap=524288%0-1+2 memmap=524288@0"
    first = configure(command_line=words, memory=64 * MIB)
    assert ram.usable(edited(first)) != ram.usable(first)


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=6)


@given(ranges, st.integers(0, 70), st.integers(0, 70))
def test_parts_and_holes_are_what_single_pfns_say(spans: list[tuple[int, int]], a: int, b: int) -> None:
    start, end = min(a, b), max(a, b)
    pfns = {pfn for first, count in spans for pfn in range(first, first + count)}
    found = Ram(tuple(ram.joined(Range(pfn, pfn + 1) for pfn in sorted(pfns))), 70)
    window = set(range(start, end))
    assert {pfn for pfn in range(80) if pfn in found} == pfns
    assert {pfn for r in found.within(start, end) for pfn in range(r.start, r.end)} == pfns & window
    assert {pfn for r in found.holes(start, end) for pfn in range(r.start, r.end)} == window - pfns
    assert found.pages(start, end) == len(pfns & window)


@pytest.mark.parametrize(
    ("start", "end", "holes"),
    [(2, 8, [(4, 6)]), (0, 8, [(0, 2), (4, 6)]), (2, 10, [(4, 6), (8, 10)]), (3, 3, []), (8, 9, [(8, 9)])],
)
def test_holes_are_never_empty(start: int, end: int, holes: list[tuple[int, int]]) -> None:
    found = Ram((Range(2, 4), Range(6, 8)), 8).holes(start, end)
    assert [(hole.start, hole.end) for hole in found] == holes


def test_nothing_joined_is_nothing() -> None:
    assert list(ram.joined([])) == []


def test_a_boot_loaders_data_alone_does_not_say_where_ram_ends(configure: Configure) -> None:
    """5.10: E820_TYPE_RESERVED_KERN is memory, but e820__end_of_ram_pfn() looks at E820_TYPE_RAM."""
    old = machine.configuration("5.10", e820=(E820Entry(0, GIB, 128),))
    with pytest.raises(UsageError, match="no usable RAM"):
        ram.usable(replace(old, image=replace(old.image, sections={})))


def test_the_last_byte_that_phys_addr_t_can_hold_spoils_an_entry(configure: Configure) -> None:
    """e820__memblock_setup(): end is 0 in 64 bits."""
    last = E820Entry((1 << 64) - MIB, MIB, 1)
    assert ram.usable(configure(e820=(*configure().e820, last))).ranges == ram.usable(configure()).ranges


def test_entries_that_touch_are_one_before_they_must_fit(configure: Configure) -> None:
    """e820__update_table() joins what e820__memblock_setup() then skips as a whole."""
    middle = 3 * GIB + GIB // 2
    beyond = E820Entry(middle, 2 * GIB, 1)
    apart = (E820Entry(3 * GIB, GIB // 2 - PAGE_SIZE, 1), beyond)
    touching = (E820Entry(3 * GIB, GIB // 2, 1), beyond)
    below = (E820Entry(0, 0x9F000, 1), E820Entry(MIB, GIB, 1))
    assert ram.usable(configure(pae=False, e820=(*below, *apart))).ranges[-1] == Range(
        0xC0000, middle // PAGE_SIZE - 1
    )
    assert ram.usable(configure(pae=False, e820=(*below, *touching))).ranges[-1].end < 0xC0000

"""Ranges added to the virtual mem_map: the memory that backs them, their leaves and page tables, and where it ends."""

from __future__ import annotations

import pytest
from kernel_spaces import kernel_space
from virtual_maps import RAM, START, small

from kvmtools.errors import UsageError
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.conversions import Footprint
from kvmtools.model.memmaps.virtual_map import VirtualMap
from kvmtools.model.paging.walk import walk
from kvmtools.records import Range

MIB = 1 << 20


def test_ranges_are_added_while_the_kernel_runs() -> None:
    mem_map = small(Range(0, 0x80))
    mem_map.write(START, 28, 7)
    with pytest.raises(Unmapped):
        mem_map.write(START + 0x100 * 32, 28, 9)
    mem_map.add(0x40, 0x180)
    mem_map.write(START + 0x100 * 32, 28, 9)
    assert (mem_map.read(START, 28), mem_map.read(START + 0x100 * 32, 28)) == (7, 9)
    assert mem_map.valid == (Range(0, 0x180),)
    assert mem_map.footprint.struct_pages == 3 * 4096


def test_adding_twice_takes_nothing_more() -> None:
    mem_map = small(Range(0, 0x100), Range(0x300, 0x400))
    before = mem_map.footprint
    mem_map.add(0x10, 0x20)
    mem_map.add(0x300, 0x400)
    assert mem_map.footprint == before
    mem_map.add(0, 0x400)
    assert mem_map.footprint.struct_pages == before.struct_pages + 4 * 4096


def test_the_window_has_an_end() -> None:
    mem_map = small(pages=0x1000)
    mem_map.add(0xFFF, 0x1000)
    for start, end in ((0xFFF, 0x1001), (-1, 5), (5, 5), (6, 5)):
        with pytest.raises(UsageError, match="are no part of the window") as caught:
            mem_map.add(start, end)
    assert caught.value.hint == "its virtual space has room for pfns below 0x1000"
    assert mem_map.window == Range(START, START + 2 * MIB)
    assert small(pages=0x10001).window == Range(START, START + 4 * MIB)
    assert small(pages=0x10000).window == Range(START, START + 2 * MIB)


def test_memory_for_the_map_may_run_out() -> None:
    """3 frames of backing; two are taken, two more cannot be, one can."""
    mem_map = VirtualMap(kernel_space(RAM), 32, START, 0x20000, 4096, [Range(0x200, 0x203)])
    mem_map.add(0, 0x100)
    with pytest.raises(UsageError, match="no memory for 2 pages of mem_map in leaves of 4 KiB"):
        mem_map.add(0x100, 0x200)
    assert mem_map.valid == (Range(0, 0x100),)
    assert mem_map.footprint.struct_pages == 2 * 4096


def test_memory_that_does_not_suffice_is_left_for_others() -> None:
    """A range that needs two pages takes none if there is one, and a range that needs one can have it."""
    mem_map = VirtualMap(kernel_space(RAM), 32, START, 0x1000, 4096, [Range(0x1000, 0x1001)])
    free = mem_map.space.memblock.free
    with pytest.raises(UsageError, match="no memory for 2 pages of mem_map"):
        mem_map.add(127, 129)
    assert mem_map.space.memblock.free == free
    assert mem_map.footprint.struct_pages == 0
    mem_map.add(0, 1)
    assert mem_map.valid == (Range(0, 1),)


def test_backing_is_taken_in_order_and_in_pieces() -> None:
    """Two frames at 0x300, then five at 0x200 from the top down: seven leaves across three runs."""
    zones = [Range(0x300, 0x302), Range(0x200, 0x205)]
    mem_map = VirtualMap(kernel_space(RAM), 32, START, 0x20000, 4096, zones)
    mem_map.add(0, 7 * 128)
    space = mem_map.space
    leaves = list(walk(space.memory.read, space.tables.root, space.form))
    assert [(leaf.virtual, leaf.physical >> 12) for leaf in leaves] == [
        (START + number * 4096, frame)
        for number, frame in enumerate([0x300, 0x301, 0x200, 0x201, 0x202, 0x203, 0x204])
    ]
    assert all(leaf.writable and not leaf.user and not leaf.executable for leaf in leaves)


def test_a_run_of_leaves_fills_one_page_table_after_the_other() -> None:
    """256 pages, the last 128 under one directory entry of 512 and the first 128 under the next."""
    mem_map = small(Range(0x180, 0x280), size=4096)
    space = mem_map.space
    leaves = list(walk(space.memory.read, space.tables.root, space.form, START))
    assert [leaf.virtual for leaf in leaves] == [START + pfn * 4096 for pfn in range(0x180, 0x280)]
    physical = [leaf.physical for leaf in leaves]
    assert physical == list(range(physical[0], physical[0] + 256 * 4096, 4096))
    assert len({leaf.table for leaf in leaves}) == 2
    # PAE's directory is the kernel's anyway; the two page tables are the map's.
    assert mem_map.footprint.page_tables == 2 * 4096
    assert {leaf.entry & 0xFFF for leaf in leaves} == {0x163}
    assert {leaf.entry >> 63 for leaf in leaves} == {1}


def test_without_nx_leaves_have_no_such_bit() -> None:
    mem_map = small(Range(0, 1), with_pae=False)
    space = mem_map.space
    (leaf,) = walk(space.memory.read, space.tables.root, space.form)
    assert leaf.entry & 0xFFF == 0x163
    assert leaf.executable


def test_highmem_and_lowmem_are_told_apart() -> None:
    space = kernel_space(Range(0, 0x40000), max_low_pfn=0x8000)
    mem_map = VirtualMap(space, 32, START, 0x40000, 4096, [Range(0x3FFFE, 0x40000), Range(0, 0x8000)])
    mem_map.add(0, 0x180)
    assert mem_map.footprint == Footprint(
        struct_pages=3 * 4096, window=8 * MIB, lowmem=2 * 4096, highmem=2 * 4096, page_tables=4096, static=4
    )

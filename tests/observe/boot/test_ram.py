"""What recorded guests wrote down about their RAM."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from kvmtools.observe.boot.ram import RamMaps, needs, observe_ram
from kvmtools.observe.broken import Broken
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.pages.memmap import observe_memmap
from kvmtools.observe.zones.zones import observe_zones
from kvmtools.records import Range

Patch = Callable[[int, bytes], None]

USABLE = 1


def test_three_books_say_the_same(recorded: Kernel) -> None:
    ram = observe_ram(recorded)
    usable = [Range(each.start, each.start + each.size) for each in ram.e820 if each.type == USABLE]
    assert tuple(usable) == ram.system_ram
    assert ram.memblock is None  # given back with the rest of __init
    # QEMU's map has page 0 as RAM; the kernel takes it away (trim_bios_range).
    assert ram.firmware_e820[0].start == 0
    assert ram.firmware_e820[0].type == USABLE
    assert ram.e820[0].type != USABLE


def test_pages_and_holes_fill_the_memory(recorded: Kernel) -> None:
    ram = observe_ram(recorded)
    memmap = observe_memmap(recorded)
    ends = [(each.start, each.end) for each in sorted((*ram.pages, *ram.holes))]
    assert ends[0][0] == 0
    assert ends[-1][1] == memmap.length
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    present = sum(zone.present for zone in observe_zones(recorded, lambda: memmap))
    assert sum(len(each) for each in ram.pages) == present


def test_a_page_that_is_ram_in_part_is_none(recorded: Kernel) -> None:
    resources = observe_ram(recorded).resources
    one = next(each for each in resources if each.name == "System RAM")
    odd = replace(one, start=0x1001, end=0x4FFF)
    next_to_it = replace(one, start=0x5000, end=0x7000)
    ram = RamMaps(e820=(), firmware_e820=(), memblock=None, resources=(odd, next_to_it))
    assert ram.pages == (Range(2, 4), Range(5, 7))
    assert ram.holes == (Range(0, 2), Range(4, 5))


def test_ram_that_is_two_lines_of_the_book_is_one(recorded: Kernel) -> None:
    """What e820 calls RESERVED_KERN (setup_data) is System RAM beside System RAM, in the middle of a page."""
    resources = observe_ram(recorded).resources
    one = next(each for each in resources if each.name == "System RAM")
    borders = (0x1000, 0x5234, 0x5278, 0x8000)
    lines = tuple(replace(one, start=start, end=end) for start, end in pairwise(borders))
    assert RamMaps(e820=(), firmware_e820=(), memblock=None, resources=lines).pages == (Range(1, 8),)


def test_the_kernel_image_lies_in_ram(recorded: Kernel) -> None:
    resources = observe_ram(recorded).resources
    depths = {each.name: each.depth for each in resources}
    assert depths["System RAM"] == 0
    assert depths["Kernel code"] == 1
    (code,) = [each for each in resources if each.name == "Kernel code"]
    assert any(each.start <= code.start and code.end <= each.end for each in observe_ram(recorded).system_ram)


def test_a_tree_that_bites_its_tail_ends(recorded: Kernel, patch: Patch) -> None:
    root = recorded.address("iomem_resource")
    vmlinux = recorded.vmlinux
    first = recorded.pointer(root + vmlinux.offset("struct resource", "child"))
    patch(first + vmlinux.offset("struct resource", "sibling"), struct.pack("<I", first))
    broken: list[Broken] = []
    assert [each.start for each in observe_ram(recorded, broken).resources] == [
        recorded.member(first, "struct resource", "start")
    ]
    (loop,) = broken
    assert (loop.structure, loop.address) == ("iomem_resource", first)
    assert "does not end" in loop.reason


def test_needs_are_captured_ram(recorded: Kernel) -> None:
    for wanted in needs(recorded):
        assert len(recorded.memory.read(wanted.start, len(wanted))) == len(wanted)

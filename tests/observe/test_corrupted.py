"""Guests whose structures were overwritten: none of them stops the tool, and none of them agrees with the model.

Each is looked at from end to end as a running guest is: captured, decoded, compared, reported in every format.
"""

from __future__ import annotations

import json
import random
import signal
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

import numpy as np
import pytest
from recorded_guest import RecordedGuest, load
from whole_memory import WholeMemory

from kvmtools.compare.engine import check
from kvmtools.findings import Result, Status
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import with_lowmem_end
from kvmtools.observe.observed import observe, prepare
from kvmtools.report import FORMATS, render

WORD = 1 << 32
NOWHERE = 0x0000_0100
BEHIND_LOWMEM = 0xF000_0000
SECONDS = 20
"""A guest that takes longer than this, a hundred times the usual, is one that is never done with."""

SEED = 1987
RUNS = 40


@pytest.fixture(params=["pae", "nopae"])
def guest(request: pytest.FixtureRequest) -> RecordedGuest:
    return load(request.param)


@contextmanager
def not_for_ever() -> Iterator[None]:
    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("a damaged guest keeps us for ever")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def verdict(guest: RecordedGuest) -> Result:
    """Capture, decode, compare and report the guest as its memory is now."""
    with not_for_ever():
        kernel = with_lowmem_end(guest.kernel.with_memory(WholeMemory(guest.snapshot)))
        with prepare(kernel) as capture:
            snapshot = capture.take()
        result = check(observe(kernel, snapshot, guest.registers))
        for form in FORMATS:
            assert render(result, form, color=True, verbose=True)
        json.loads(render(result, "json"))
        ElementTree.fromstring(render(result, "junit"))
    return result


Do = Callable[[RecordedGuest], None]


class Damage(NamedTuple):
    """What to overwrite, and the rules of which at least one must say so."""

    do: Do
    rules: tuple[str, ...]


def variable(name: str, value: int) -> Do:
    """Overwrite a variable of the kernel's."""
    return lambda guest: guest.write(guest.healthy.address(name), value)


def member(address: Callable[[RecordedGuest], int], type_name: str, name: str, value: int) -> Do:
    """Overwrite a word of the structure at ``address``."""
    return lambda guest: guest.write(address(guest) + guest.vmlinux.offset(type_name, name), value)


def page(name: str, value: int, pfn: Callable[[RecordedGuest], int]) -> Do:
    """Overwrite a word of one ``struct page``."""

    def write(guest: RecordedGuest) -> None:
        memmap = guest.healthy.memmap
        guest.write(memmap.pfn_to_page(pfn(guest)) + memmap.offsets[name], value)

    return write


def task(guest: RecordedGuest) -> int:
    return guest.healthy.observed.processes[0].task


def mm(guest: RecordedGuest) -> int:
    return guest.healthy.observed.processes[0].mm


def zone(guest: RecordedGuest) -> int:
    """The ``struct zone`` of NORMAL."""
    return next(each.address for each in guest.healthy.populated_zones if each.name == "NORMAL")


def node(guest: RecordedGuest) -> int:
    return guest.healthy.address("contig_page_data")


def boot_cpu(guest: RecordedGuest) -> int:
    return guest.healthy.address("boot_cpu_data")


def resource(guest: RecordedGuest) -> int:
    """The first line of /proc/iomem."""
    return guest.read(
        guest.healthy.address("iomem_resource") + guest.vmlinux.offset("struct resource", "child")
    )


def e820(guest: RecordedGuest) -> int:
    return guest.read(guest.healthy.address("e820_table_firmware"))


def free_page(guest: RecordedGuest) -> int:
    return int(guest.healthy.free_blocks.heads[-1])


def used_page(guest: RecordedGuest) -> int:
    return guest.healthy.address("init_task") - guest.healthy.page_offset >> 12


def per_cpu_offsets(guest: RecordedGuest) -> None:
    for cpu in range(2):
        guest.write(guest.healthy.address("__per_cpu_offset") + 4 * cpu, 0x1234_5678 * (cpu + 1))


def resource_loop(guest: RecordedGuest) -> None:
    first = resource(guest)
    guest.write(first + guest.vmlinux.offset("struct resource", "sibling"), first)


def free_list_loop(guest: RecordedGuest) -> None:
    """A block's page leads to itself."""
    memmap = guest.healthy.memmap
    link = memmap.pfn_to_page(free_page(guest)) + memmap.offsets["lru"]
    guest.write(link, link)


def free_list_head(guest: RecordedGuest) -> None:
    """The first list that has a block leads out of mem_map."""
    area = next(area for each in guest.healthy.populated_zones for area in each.free_area if area.blocks)
    owner = next(each for each in guest.healthy.populated_zones if area in each.free_area)
    number = next(index for index, each in enumerate(area.lists) if len(each.pages))
    lists = owner.address + guest.vmlinux.offset("struct zone", f"free_area[{area.order}]")
    guest.write(lists + number * guest.vmlinux.sizeof("struct list_head"), BEHIND_LOWMEM)


def bucket_loop(guest: RecordedGuest) -> None:
    """A hash entry leads to itself."""
    node = guest.healthy.hash_entries[0].address + guest.vmlinux.offset("struct page_address_map", "list")
    guest.write(node, node)


def bucket_wild(guest: RecordedGuest) -> None:
    node = guest.healthy.hash_entries[0].address + guest.vmlinux.offset("struct page_address_map", "list")
    guest.write(node, NOWHERE)


def directory_entry(value: int) -> Do:
    """Overwrite the entry that leads to the first page table of the kernel's half that is not a leaf."""

    def write(guest: RecordedGuest) -> None:
        tables, size = guest.healthy.kernel_walk.tables, guest.healthy.entry_size
        row = int(np.flatnonzero(tables.level == 1)[0])
        parents = np.flatnonzero(tables.level == 2)
        above = parents[np.searchsorted(tables.virtual[parents], tables.virtual[row], "right") - 1]
        span = 21 if guest.kernel.architecture is I386_PAE else 22
        index = int(tables.virtual[row] - tables.virtual[above]) >> span
        guest.write_physical(int(tables.physical[above]) + index * size, value, size)

    return write


def top_entries_lead_to_themselves(guest: RecordedGuest) -> None:
    """Entries of the top table, in the kernel's half, lead to the top table."""
    root, size = guest.healthy.kernel_space.root, guest.healthy.entry_size
    for index in range(3, 4) if guest.kernel.architecture is I386_PAE else range(768, 800):
        guest.write_physical(root + index * size, root | 0x1, size)


def address_marker(guest: RecordedGuest) -> None:
    """The first marker's name leads nowhere."""
    guest.write(
        guest.healthy.address("address_markers") + guest.vmlinux.offset("struct addr_marker", "name"), NOWHERE
    )


def comm_with_escapes(guest: RecordedGuest) -> None:
    """A process whose name speaks to the terminal, and whose page tables are nowhere."""
    name = b"\x1b[2J\x07\xff<&"
    place = task(guest) + guest.vmlinux.offset("struct task_struct", "comm")
    guest.write(place, int.from_bytes(name, "little"), len(name))
    guest.write(mm(guest) + guest.vmlinux.offset("struct mm_struct", "pgd"), BEHIND_LOWMEM)


READABLE = ("guest.readable",)
RAM_MAP = ("layout.matches-model", "zones.system-ram", "guest.possible")
LISTS = ("buddy.lists-sound", "buddy.listed")
DAMAGES = {
    "task list leads nowhere": Damage(member(task, "struct task_struct", "tasks", NOWHERE), READABLE),
    "task's mm leads nowhere": Damage(member(task, "struct task_struct", "mm", NOWHERE), READABLE),
    "mm's pgd leads nowhere": Damage(member(mm, "struct mm_struct", "pgd", NOWHERE), READABLE),
    "mm's pgd behind lowmem": Damage(member(mm, "struct mm_struct", "pgd", BEHIND_LOWMEM), READABLE),
    "comm with escapes": Damage(comm_with_escapes, READABLE),
    "mem_map nowhere": Damage(variable("mem_map", NOWHERE), READABLE),
    "mem_map NULL": Damage(variable("mem_map", 0), READABLE),
    "mem_map behind lowmem": Damage(variable("mem_map", BEHIND_LOWMEM), READABLE),
    "mem_map elsewhere": Damage(variable("mem_map", 0xC100_0000), ("memmap.zone", "memmap.holes-reserved")),
    "max_mapnr 0": Damage(variable("max_mapnr", 0), ("layout.matches-model",)),
    "max_mapnr 1": Damage(variable("max_mapnr", 1), ("layout.matches-model",)),
    "max_mapnr insane": Damage(variable("max_mapnr", WORD - 1), ("layout.matches-model",)),
    "node spans everything": Damage(
        member(node, "struct pglist_data", "node_spanned_pages", WORD - 1), READABLE
    ),
    "node spans nothing": Damage(
        member(node, "struct pglist_data", "node_spanned_pages", 0), ("guest.readable", *LISTS)
    ),
    "node starts at the end": Damage(
        member(node, "struct pglist_data", "node_start_pfn", WORD - 1), READABLE
    ),
    "page in zone 3": Damage(page("flags", WORD - 1, used_page), ("memmap.zone",)),
    "buddy order 200": Damage(page("private", 200, free_page), ("buddy.head-state",)),
    "buddy order insane": Damage(page("private", WORD - 1, free_page), ("buddy.head-state",)),
    "free page leads nowhere": Damage(page("lru", NOWHERE, free_page), LISTS),
    "free page leads behind mem_map": Damage(page("lru", BEHIND_LOWMEM, free_page), LISTS),
    "free list loops": Damage(free_list_loop, LISTS),
    "free list head leads out of mem_map": Damage(free_list_head, LISTS),
    "nr_free negative": Damage(member(zone, "struct zone", "free_area[3].nr_free", -1), ("buddy.nr-free",)),
    "zone starts at the end": Damage(
        member(zone, "struct zone", "zone_start_pfn", WORD - 1), ("zones.spans",)
    ),
    "zone spans everything": Damage(member(zone, "struct zone", "spanned_pages", WORD - 1), ("zones.spans",)),
    "zone manages -1": Damage(member(zone, "struct zone", "managed_pages", -1), ("zones.counts-ordered",)),
    "zone has no pages": Damage(member(zone, "struct zone", "present_pages", 0), ("zones.counts-ordered",)),
    "zone's pagesets nowhere": Damage(member(zone, "struct zone", "per_cpu_pageset", NOWHERE), READABLE),
    "per-CPU offsets": Damage(per_cpu_offsets, READABLE),
    "every CPU possible": Damage(variable("__cpu_possible_mask", WORD - 1), READABLE),
    "no CPU possible": Damage(variable("__cpu_possible_mask", 0), READABLE),
    "pkmap_page_table nowhere": Damage(variable("pkmap_page_table", NOWHERE), READABLE),
    "pkmap_page_table behind lowmem": Damage(variable("pkmap_page_table", BEHIND_LOWMEM), READABLE),
    "pkmap_page_table elsewhere": Damage(variable("pkmap_page_table", 0xC100_0FF4), ("pkmap.page-table",)),
    "hash bucket loops": Damage(bucket_loop, ("pkmap.hash-lists",)),
    "hash bucket leads nowhere": Damage(bucket_wild, ("pkmap.hash-lists",)),
    "page table behind RAM": Damage(directory_entry(0xFFF0_0063), ("pagetable.tables-in-ram",)),
    "page table in the first page behind RAM": Damage(
        directory_entry(0x0600_0063), ("pagetable.tables-in-ram",)
    ),
    "top table leads to itself": Damage(top_entries_lead_to_themselves, ("pagetable.direct-map",)),
    "e820 of 4 billion entries": Damage(member(e820, "struct e820_table", "nr_entries", WORD - 1), READABLE),
    "e820 without entries": Damage(
        member(e820, "struct e820_table", "nr_entries", 0), ("layout.matches-model",)
    ),
    "e820 nowhere": Damage(variable("e820_table_firmware", NOWHERE), READABLE),
    "command line nowhere": Damage(variable("saved_command_line", NOWHERE), READABLE),
    "command line behind lowmem": Damage(variable("saved_command_line", BEHIND_LOWMEM), READABLE),
    "command line without end": Damage(
        variable("saved_command_line", 0xC100_0000), ("layout.matches-model",)
    ),
    "resource leads nowhere": Damage(member(resource, "struct resource", "sibling", NOWHERE), READABLE),
    "resource leads to zeros": Damage(member(resource, "struct resource", "sibling", 0xC030_0000), RAM_MAP),
    "resource tree loops": Damage(resource_loop, READABLE),
    "high_memory 0": Damage(variable("high_memory", 0), ("layout.matches-model",)),
    "high_memory in the image": Damage(variable("high_memory", 0xC010_0000), ("layout.matches-model",)),
    "high_memory too low": Damage(variable("high_memory", 0xC280_0000), ("layout.matches-model", *READABLE)),
    "high_memory too high": Damage(variable("high_memory", WORD - 1), ("layout.matches-model",)),
    "max_low_pfn insane": Damage(variable("max_low_pfn", WORD - 1), ("layout.matches-model",)),
    "max_pfn 0": Damage(variable("max_pfn", 0), ("layout.matches-model",)),
    "CPU of 255 address bits": Damage(
        member(boot_cpu, "struct cpuinfo_x86", "x86_phys_bits", WORD - 1), ("guest.possible",)
    ),
    "fixmap at 0": Damage(variable("__FIXADDR_TOP", 0), ("layout.matches-model",)),
    "address marker without a name": Damage(address_marker, READABLE),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_overwritten_is_found(guest: RecordedGuest, damage: Damage) -> None:
    damage.do(guest)
    result = verdict(guest)
    found = {finding.rule for finding in result.findings}
    assert result.exit_code == 1
    assert found & set(damage.rules), found


def test_a_part_that_cannot_be_read_spoils_no_other(guest: RecordedGuest) -> None:
    variable("mem_map", NOWHERE)(guest)
    result = verdict(guest)
    assert {finding.rule for finding in result.findings} == {"guest.readable"}
    status = {outcome.rule: outcome.status for outcome in result.outcomes}
    assert status["pkmap.slot-hashed"] is status["buddy.listed"] is Status.SKIPPED
    assert status["layout.matches-model"] is status["pagetable.direct-map"] is Status.AGREE
    reasons = {outcome.reason for outcome in result.outcomes if outcome.rule.startswith("buddy.")}
    assert len(reasons) == 1
    assert "virtual address 0x100: is not in the linear map (reading mem_map)" in reasons.pop()


def test_words_overwritten_anywhere_stop_nothing(guest: RecordedGuest) -> None:
    """Pointers, counts and flags anywhere in what was recorded; ``SEED`` repeats it."""
    chance = random.Random(SEED)
    words = [address for each in guest.snapshot.captured for address in range(each.start, each.end, 4)]
    content = {address: guest.snapshot.read(address, 4) for address in words}
    used = [address for address, word in content.items() if any(word)]
    for run in range(RUNS):
        chosen = chance.sample(used, chance.choice((1, 2, 8, 32)))
        for address in chosen:
            old = int.from_bytes(content[address], "little")
            guest.write_physical(address, damaged(chance, old))
        try:
            verdict(guest)
        except Exception as error:
            error.add_note(f"run {run}, overwritten: {', '.join(map(hex, chosen))}")
            raise
        for address in chosen:
            guest.snapshot.patch(address, content[address])


def damaged(chance: random.Random, word: int) -> int:
    """Something that may stand where a word stood: another place, another size, another bit."""
    return chance.choice(
        (
            0,
            WORD - 1,
            1 << 31,
            chance.getrandbits(32),
            0xC000_0000 + chance.randrange(0, 96 << 20, 4),
            word ^ 1 << chance.randrange(32),
            word + chance.choice((-4096, -8, -4, 4, 8, 4096)),
            chance.randrange(256),
        )
    )

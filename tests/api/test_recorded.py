"""What is known of the recorded guests from elsewhere: the machine that was booted, the driver's program, gdb, the page
tables.  An answer that our own code gives twice proves nothing.
"""

from __future__ import annotations

from collections import Counter

import pytest
from opened_kernel import recorded_session, session_of
from recorded_guest import RecordedGuest, exchanged, load
from whole_memory import WholeMemory

import kvmtools
from kvmtools.api.mappings import region_names
from kvmtools.api.pkmap import PkmapSlots, pkmap_slots
from kvmtools.records import PAGE_SIZE, Range

MIX = 43
"""``mix 300`` (qemu/driver/pages.c) goes through its table of eight pages 43 times, less the last page of all."""
MAX_LOW_PFN, MAX_PFN = 0x47E0, 0x5FE0
"""Of 96 MiB, the firmware keeps 128 KiB at the end; of the rest, 24 MiB are highmem."""
MODES = {"pae": "PAE, NX, global, WP", "nopae": "32-bit, 4 MiB pages, global, WP"}
LAST_PKMAP = {"pae": 512, "nopae": 1024}


@pytest.fixture(params=["pae", "nopae"])
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def guest(name: str) -> RecordedGuest:
    return load(name)


@pytest.fixture
def kernel(name: str) -> kvmtools.OpenKernel:
    return kvmtools.OpenKernel(recorded_session(name))


def slots_of(kernel: kvmtools.OpenKernel) -> PkmapSlots:
    slots = kernel.pkmap()
    assert slots is not None
    return slots


def test_the_slots_are_those_that_the_driver_took(kernel: kvmtools.OpenKernel, guest: RecordedGuest) -> None:
    slots = slots_of(kernel)
    assert Counter(slot.users for slot in slots.used) == {1: 3 * MIX, 0: 2 * MIX, 3: MIX, 5: MIX}
    assert (len(slots.present), sum(slots.present)) == (len(slots), 7 * MIX)
    assert [slot for slot, there in enumerate(slots.present) if there] == [used.slot for used in slots.used]
    mem_map = kernel.read(guest.gdb.address("mem_map") + kernel.slide, 4)
    size = guest.gdb("sizeof(struct page)")
    for used in slots.used:
        assert used.pfn is not None
        assert MAX_LOW_PFN <= used.pfn < MAX_PFN
        assert (used.zone, used.page) == ("HIGHMEM", int.from_bytes(mem_map, "little") + used.pfn * size)


def test_the_drivers_three_local_slots_of_cpu_1(kernel: kvmtools.OpenKernel) -> None:
    local = slots_of(kernel).local
    assert [(slot.cpu, slot.index) for slot in local] == [(1, 0), (1, 1), (1, 2)]
    first, second, third = (slot.virtual for slot in local)
    assert first - second == second - third == PAGE_SIZE
    for slot in local:
        way = kernel.vtop(slot.virtual)
        assert way.physical == slot.pfn * PAGE_SIZE
        assert MAX_LOW_PFN <= slot.pfn < MAX_PFN


def test_a_slot_that_leads_behind_all_ram_has_no_page(guest: RecordedGuest) -> None:
    kernel = kvmtools.OpenKernel(session_of(guest, guest.kernel.with_memory(WholeMemory(guest.snapshot))))
    before = slots_of(kernel)
    broken = before.used[7]
    place = before.area.page_table_physical + broken.slot * before.entry_size
    guest.write_physical(place, (MAX_PFN + 1) * PAGE_SIZE | 0x163)
    now = next(used for used in slots_of(kernel).used if used.slot == broken.slot)
    assert (now.pfn, now.page, now.zone, now.count) == (MAX_PFN + 1, None, None, broken.count)
    guest.write_physical(place, 0)
    now = next(used for used in slots_of(kernel).used if used.slot == broken.slot)
    assert (now.pfn, now.page, now.zone, now.count) == (None, None, None, broken.count)
    assert not slots_of(kernel).present[broken.slot]


def test_a_kernel_without_highmem_has_no_slots(guest: RecordedGuest) -> None:
    assert pkmap_slots(exchanged(guest.observe(), pkmap=None)) is None


def test_the_prediction_is_for_the_machine_that_was_booted(name: str, kernel: kvmtools.OpenKernel) -> None:
    predicted = kernel.prediction()
    assert predicted.era.name == "6.1"
    assert predicted.layout.max_low_pfn == MAX_LOW_PFN
    assert [(span.name, span.end_pfn) for span in predicted.zones if span.name == "HIGHMEM"] == [
        ("HIGHMEM", MAX_PFN)
    ]


def test_the_layout_is_that_of_96_mib(name: str, kernel: kvmtools.OpenKernel, guest: RecordedGuest) -> None:
    layout = kernel.layout()
    assert {each.name: each.live for each in layout.limits} == {
        "max_low_pfn": MAX_LOW_PFN,
        "highstart_pfn": MAX_LOW_PFN,
        "highend_pfn": MAX_PFN,
        "max_pfn": MAX_PFN,
        "max_mapnr": MAX_PFN,
        "last_pkmap": LAST_PKMAP[name],
    }
    assert layout["page_offset"].live == 0xC000_0000
    assert layout["high_memory"].live == 0xC000_0000 + MAX_LOW_PFN * PAGE_SIZE
    assert layout["fixaddr_top"].live == 0xFFFF_F000
    assert [each.name for each in layout.boundaries][:2] == ["fixaddr_top", "fixaddr_start"]
    assert layout.boundaries[-1].name == "page_offset"
    assert layout.slide == kernel.slide != 0
    assert list(layout.image) == ["text", "rodata", "data", "init (freed)", "bss", "brk"]
    assert layout.image["text"].start in (
        guest.gdb.address("_stext") + kernel.slide,
        guest.gdb.address("_stext") + kernel.slide - PAGE_SIZE,
    )
    for section in layout.image.values():
        assert Range(0xC000_0000, 0xC000_0000 + MAX_LOW_PFN * PAGE_SIZE).start < section.start < section.end


def test_the_vcpus_are_where_the_driver_left_them(name: str, kernel: kvmtools.OpenKernel) -> None:
    vcpus = kernel.regs()
    assert (len(vcpus), [vcpu.cpu for vcpu in vcpus.vcpus], vcpus[1].cpu) == (2, [0, 1], 1)
    assert [vcpu.paging for vcpu in vcpus.vcpus] == [MODES[name]] * 2
    assert [vcpu.region for vcpu in vcpus.vcpus] == ["kernel text", "module kvmtools"]
    assert {vcpu.page_table for vcpu in vcpus.vcpus} == {"pid 1 (init)"}
    assert (vcpus.source, vcpus.disagreements) == ("the core's notes", ())


def test_a_kernel_without_the_highest_flags_is_told_by_its_registers(kernel: kvmtools.OpenKernel) -> None:
    first, *_others = kernel.regs().vcpus
    assert first.cr0 >> 31 == 1
    assert ("PAE" in first.paging) == bool(first.cr4 >> 5 & 1) == kernel.pae


def test_a_check_of_a_core_says_which_and_nothing_of_pauses(name: str, kernel: kvmtools.OpenKernel) -> None:
    result = kernel.check()
    assert (result.core, result.live, result.exit_code) == (name, {}, 0)
    assert (result.samples, result.transients) == (1, 0)


def test_who_is_open(name: str, kernel: kvmtools.OpenKernel) -> None:
    assert kernel.release == f"Linux version 6.1.192-kvmtools-{name}"
    assert repr(kernel) == f"{kernel.release} in core {name}"
    assert kernel.state == "", "it has booted, and has not panicked"


def test_a_walk_is_summed_up(kernel: kvmtools.OpenKernel, guest: RecordedGuest) -> None:
    found = kernel.walk()
    root = kernel.vtop("swapper_pg_dir").physical
    assert root is not None
    sizes = found.walk.size.tolist()
    mib = sum(sizes) / (1 << 20)
    large = sum(size > PAGE_SIZE for size in sizes)
    start = f"swapper_pg_dir, cr3 {root:#x}, {'PAE' if kernel.pae else 'non-PAE'}: "
    assert found.summary == f"{start}{len(sizes):,} leaves, {large} of them large, map {mib:.1f} MiB"
    # All of lowmem is mapped, and some of vmalloc and of the windows.
    assert MAX_LOW_PFN * PAGE_SIZE < sum(sizes) < 2 * MAX_LOW_PFN * PAGE_SIZE


def test_regions_are_one_word_each(kernel: kvmtools.OpenKernel) -> None:
    names = region_names(kernel.walk().regions)
    assert {"direct-map", "pkmap", "vmalloc", "fixmap"} <= set(names)
    assert len(names) == len(set(names))
    assert {each.name.replace(" ", "-") for each in kernel.walk().regions} <= set(names)
    assert not any(" " in each for each in names)
    assert set(region_names()) <= set(names)


def test_pages_are_of_the_sort_that_others_make_them(kernel: kvmtools.OpenKernel) -> None:
    """Tables of a process are typed so, the image is reserved, and the driver has each of its pages alone."""
    (init, *_others) = kernel.processes()
    tables = {table // PAGE_SIZE for table in kernel.walk(end=0xC000_0000, pid=init.pid).walk.table.tolist()}
    assert {kernel.page(pfn).type_names for pfn in tables} == {("table",)}
    text = kernel.page(kernel.vtop("_stext").page.pfn)  # type: ignore[union-attr]
    assert ("PG_reserved" in text.flag_names, text.zone, text.refcount) == (True, "NORMAL", 1)
    for used in slots_of(kernel).used:
        page = kernel.page(used.pfn or 0)
        assert (page.page, page.zone, page.refcount, page.mapcount) == (used.page, "HIGHMEM", 1, 0)

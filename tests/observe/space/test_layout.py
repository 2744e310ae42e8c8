"""The layout as recorded guests show it; where the kernel's own book of it is missing, other structures tell."""

from __future__ import annotations

import dataclasses
from typing import Any

from kvmtools.observe.space.layout import kernel_walk, observe_layout
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import PAGE_SIZE, Layout

NO_MARKERS = "symbol address_markers"


def test_pages_and_addresses_tell_the_same_story(recorded_guest: Any) -> None:
    layout = observe_layout(recorded_guest.kernel())
    assert layout.page_offset == 0xC000_0000
    assert layout.high_memory == layout.page_offset + layout.max_low_pfn * PAGE_SIZE
    assert layout.highstart_pfn == layout.max_low_pfn
    assert layout.highend_pfn == layout.max_pfn == layout.max_mapnr
    assert layout.last_pkmap == (512 if recorded_guest.name == "pae" else 1024)
    assert layout.fixaddr_top == 0xFFFF_F000


def test_without_markers_the_page_tables_and_the_idt_tell(recorded_guest: Any) -> None:
    told = observe_layout(recorded_guest.kernel())
    seen = observe_layout(recorded_guest.kernel(NO_MARKERS))
    assert seen.pkmap_base == told.pkmap_base is not None
    assert seen.cpu_entry_area_base == told.cpu_entry_area_base is not None
    untold = {field for field, value in seen.items() if value is None}
    assert untold == {
        *("vmalloc_start", "vmalloc_end", "ldt_base", "ldt_end"),
        *("cpu_entry_area_end", "fixaddr_tot_start", "fixaddr_start"),
    }
    shown = {field: value for field, value in seen.items() if value is not None}
    assert shown.items() <= dict(told.items()).items()


def test_a_walk_at_hand_gives_the_same_answer(recorded_guest: Any) -> None:
    kernel = recorded_guest.kernel(NO_MARKERS)
    assert observe_layout(kernel, kernel_walk(kernel)) == observe_layout(kernel)


def test_what_no_structure_shows_is_not_known(recorded_guest: Any) -> None:
    variables = ("high_memory", "__FIXADDR_TOP", "max_low_pfn", "max_pfn")
    variables += ("highstart_pfn", "highend_pfn", "max_mapnr", "idt_descr", "pkmap_page_table")
    kernel = recorded_guest.kernel(
        NO_MARKERS, "array_length typeof(pkmap_count)", *(f"symbol {variable}" for variable in variables)
    )
    assert observe_layout(kernel) == Layout(page_offset=0xC000_0000)


def test_sparsemem_leaves_max_mapnr_alone(recorded_guest: Any) -> None:
    """The variable exists there too, and stays 0 (initmem_init, arch/x86/mm/init_32.c, 6.1)."""
    kernel = recorded_guest.kernel()
    document = kernel.vmlinux.to_json()
    sections = {
        "symbol mem_section": 0xC100_0000,
        "sizeof typeof(mem_section)": 8 * 64,
        "sizeof struct mem_section": 8,
    }
    vmlinux = Vmlinux.from_json({**document, "answers": {**document["answers"], **sections}})
    flat = observe_layout(kernel)
    assert flat.max_mapnr is not None
    assert observe_layout(dataclasses.replace(kernel, vmlinux=vmlinux)) == dataclasses.replace(
        flat, max_mapnr=None
    )


def test_a_pkmap_pointer_that_no_table_agrees_with_is_no_evidence(recorded_guest: Any) -> None:
    kernel = recorded_guest.kernel(NO_MARKERS)
    pointer = kernel.physical(kernel.address("pkmap_page_table"))
    for wrong in (0, kernel.address("swapper_pg_dir"), 0xFFFF_0000):
        recorded_guest.memory.patch(pointer, wrong.to_bytes(4, "little"))
        assert observe_layout(kernel).pkmap_base is None


def test_a_marker_that_was_moved_is_seen_as_it_is(recorded_guest: Any) -> None:
    """The observer reports what stands there; that it is wrong is for the model to say."""
    kernel = recorded_guest.kernel()
    markers = kernel.physical(kernel.address("address_markers"))
    size = kernel.vmlinux.sizeof("struct addr_marker")
    before = observe_layout(kernel)
    moved = (before.vmalloc_start + (1 << 20)).to_bytes(4, "little")
    recorded_guest.memory.patch(markers + 2 * size, moved)
    after = observe_layout(kernel)
    assert after == dataclasses.replace(before, vmalloc_start=before.vmalloc_start + (1 << 20))

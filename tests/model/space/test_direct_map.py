"""The kernel half of the page tables before 5.10: pagetable_init of 2.4.18-14, kernel_physical_mapping_init of 2.6."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvmtools.errors import UsageError
from kvmtools.model.machine import configuration
from kvmtools.model.prediction import Prediction
from kvmtools.records import E820Entry, Expectation, Image, Leaf

MIB, GIB = 1 << 20, 1 << 30
Row = tuple[int, int, str, str, bool | None, bool | None]

TEXT = {"_text": 0xC0100000, "_etext": 0xC0301234, "__init_begin": 0xC0420000, "__init_end": 0xC0467000}


def old(era: str, sections: dict[str, int] = TEXT, **changes: Any) -> Prediction:
    slots = {"fixmap_slots": (16, 16) if era == "2.4" else (83, 100)}
    return Prediction(replace(configuration(era, **slots | changes), image=Image(0, sections)))


def rows(prediction: Prediction) -> list[Row]:
    return [(e.start, e.end, e.name, e.presence, e.writable, e.executable) for e in prediction.expectations]


def test_2_4_writes_and_executes_everything() -> None:
    assert rows(old("2.4", pae=False, memory=2 * GIB)) == [
        (0xC0000000, 0xF8000000, "direct map", "all", True, True),
        (0xF8000000, 0xF8800000, "gap below vmalloc", "none", None, None),
        (0xF8800000, 0xFDFFE000, "vmalloc area", "some", None, True),
        (0xFDFFE000, 0xFE000000, "guard below pkmap", "none", None, None),
        (0xFE000000, 0xFE400000, "pkmap", "some", True, True),
        (0xFE400000, 0xFFFEE000, "unused rest of pkmap", "none", None, None),
        # 16 slots, of which slot 0 lies at FIXADDR_TOP itself, 0xffffe000.
        (0xFFFEE000, 0xFFFFF000, "fixmap", "some", None, True),
        (0xFFFFF000, 1 << 32, "top of memory", "none", None, None),
    ]


def test_2_4_has_no_gap_of_pkmap_without_highmem() -> None:
    found = rows(old("2.4", pae=False, highmem=False, memory=2 * GIB))
    assert [row[2] for row in found] == [
        "direct map", "gap below vmalloc", "vmalloc area", "guard above vmalloc", "fixmap", "top of memory",
    ]  # fmt: skip
    assert found[3][:2] == (0xFFFEC000, 0xFFFEE000)


@pytest.mark.parametrize(("pae", "end"), [(False, 0xE0000000), (True, 0xE0000000)])
@pytest.mark.parametrize("era", ["2.4", "2.6.18", "2.6.24"])
def test_the_last_large_page_overruns(era: str, pae: bool, end: int) -> None:
    """Lowmem ends at 511.875 MiB, the directory entry that maps its end at 512 MiB."""
    found = old(era, pae=pae, memory=512 * MIB)
    overrun = next(e for e in found.expectations if e.name == "rest of the last large page")
    assert (overrun.start, overrun.end, overrun.presence) == (0xDFFE0000, end, "all")
    assert overrun.physical == 0x1FFE0000
    assert (overrun.writable, overrun.executable) == (True, True if era == "2.4" or not pae else None)
    after = found.expectations[found.expectations.index(overrun) + 1]
    assert (after.name, after.start, after.end) == ("gap below vmalloc", end, 0xE0800000)


@pytest.mark.parametrize("change", [{"pse": False}, {"command_line": "mem=nopentium"}])
def test_without_large_pages_nothing_overruns(change: dict[str, Any]) -> None:
    found = Prediction(replace(old("2.4", memory=512 * MIB).configuration, **change))
    assert "rest of the last large page" not in {e.name for e in found.expectations}
    assert next(e for e in found.expectations if e.name == "gap below vmalloc").start == 0xDFFE0000


def test_2_6_32_does_not_overrun() -> None:
    assert rows(old("2.6.32", memory=512 * MIB))[2:4] == [
        (0xC0600000, 0xDFFE0000, "direct map", "all", True, False),
        (0xDFFE0000, 0xE07E0000, "gap below vmalloc", "none", None, None),
    ]


@pytest.mark.parametrize(
    ("era", "init_end", "shared"),
    [
        # is_kernel_text: addr <= __init_end, asked of the first and of the last byte of a large page.
        ("2.6.18", 0xC0467000, 0xC0600000),
        ("2.6.24", 0xC05FFFFF, 0xC0600000),
        ("2.6.24", 0xC0600000, 0xC0800000),
    ],
)
def test_large_pages_that_hold_kernel_text_are_executable(era: str, init_end: int, shared: int) -> None:
    found = rows(old(era, TEXT | {"__init_end": init_end}, memory=2 * GIB))
    assert found[:3] == [
        (0xC0000000, 0xC0301234, "low memory and kernel text", "all", None, True),
        (0xC0301234, shared, "kernel image", "all", None, None),
        (shared, 0xF8000000, "direct map", "all", True, False),
    ]
    assert found[-2:] == [
        (0xFFFAC000, 0xFFFFF000, "fixmap", "some", None, None),  # FIX_VDSO may be executed
        (0xFFFFF000, 1 << 32, "top of memory", "none", None, None),
    ]
    assert found[-3][2:] == ("boot-time fixmap", "some", None, False)
    assert found[-4] == (0xFFE00000, 0xFFF9B000, "gap below fixmap", "none", None, None)


def test_lowmem_that_ends_inside_the_images_large_page() -> None:
    found = old("2.6.18", TEXT | {"__init_end": 0xC7F00000}, memory=128 * MIB)
    assert found.layout.max_low_pfn == 0x7FE0
    assert rows(found)[1:3] == [
        (0xC0301234, 0xC7FE0000, "kernel image", "all", None, None),
        (0xC7FE0000, 0xC8000000, "rest of the last large page", "all", True, None),
    ]


def test_holes_are_mapped_until_2_6_32() -> None:
    for era in ("2.4", "2.6.18", "2.6.24", "2.6.32"):
        names = {row[2] for row in rows(old(era, command_line="memmap=1M$256M"))}
        assert "hole in lowmem" not in names
    assert "hole in lowmem" in {
        row[2] for row in rows(Prediction(configuration(command_line="memmap=1M$256M")))
    }


def test_boot_time_slots_that_vmalloc_may_use() -> None:
    """2.6 without highmem: VMALLOC_END is FIXADDR_START - 8 KiB, above where the slots for booting begin."""
    found = rows(old("2.6.18", pae=False, highmem=False))
    assert [row[:4] for row in found if row[0] >= 0xF8800000] == [
        (0xF8800000, 0xFFFAA000, "vmalloc area", "some"),
        (0xFFFAA000, 0xFFFAC000, "boot-time fixmap", "some"),
        (0xFFFAC000, 0xFFFFF000, "fixmap", "some"),
        (0xFFFFF000, 1 << 32, "top of memory", "none"),
    ]


def test_without_pkmap_the_guard_is_vmallocs() -> None:
    found = Prediction(configuration(highmem=False, nr_cpus=1, fixmap_slots=(20, 1025)))
    guard = next(e for e in found.expectations if e.name == "guard above vmalloc")
    assert (guard.start, guard.end) == (0xFF7FE000, 0xFF800000)


@pytest.mark.parametrize(("era", "presence"), [("2.6.18", "none"), ("2.6.24", "some")])
def test_reservetop(era: str, presence: str) -> None:
    assert rows(old(era, command_line="reservetop=16M"))[-1][3] == presence


def leaf(virtual: int, physical: int) -> Leaf:
    return Leaf(virtual, physical, 2 * MIB, physical | 0x1E3, 2, 0x1000, 0, True, False, False)


@pytest.mark.parametrize(
    ("era", "virtual", "reason"),
    [
        ("2.4", 0xC0000000, ""),
        ("2.6.24", 0xC0000000, ""),
        ("2.6.32", 0xC0000000, "first directory entry is split"),
        ("2.6.32", 0xC0200000, ""),
        # Lowmem ends at 511.875 MiB, in the large page from 510 MiB on.
        ("2.4", 0xDFE00000, ""),
        ("2.6.24", 0xDFE00000, ""),
        ("2.6.32", 0xDFE00000, "outside the direct map"),
        ("2.4", 0xE0000000, "outside the direct map"),
        # A hole from 256 MiB to 257 MiB.
        ("2.4", 0xD0000000, ""),
        ("2.6.32", 0xD0000000, ""),
        ("5.10", 0xD0000000, "not all RAM"),
        # In the vmalloc area.
        ("2.6.32", 0xE8000000, "PAE only, and since 4.1"),
        ("5.10", 0xE8000000, ""),
    ],
)
def test_large_leaves(era: str, virtual: int, reason: str) -> None:
    found = old(era, memory=512 * MIB, command_line="memmap=1M$256M")
    fault = found.large_leaf_fault(leaf(virtual, virtual - 0xC0000000))
    assert reason in fault
    assert bool(reason) == bool(fault)


def test_a_page_of_lowmem_is_enough_for_a_page_that_overruns() -> None:
    """Lowmem of 512 MiB and one page: the large page at 512 MiB is there for that page."""
    found = old("2.4", memory=512 * MIB + 0x21000)
    assert found.layout.max_low_pfn == 0x20001
    assert found.large_leaf_fault(leaf(0xE0000000, 0x20000000)) == ""
    assert "outside" in found.large_leaf_fault(leaf(0xE0200000, 0x20200000))
    exact = old("2.4", memory=512 * MIB + 0x20000)
    assert exact.layout.max_low_pfn == 0x20000
    assert "outside" in exact.large_leaf_fault(leaf(0xE0000000, 0x20000000))
    assert exact.large_leaf_fault(leaf(0xDFE00000, 0x1FE00000)) == ""


@pytest.mark.parametrize("name", ["_etext", "__init_end"])
def test_an_image_without_boundaries_is_refused(name: str) -> None:
    sections = {key: at for key, at in TEXT.items() if key != name}
    with pytest.raises(UsageError, match=f"where the image's {name} is"):
        _ = old("2.6.18", sections).expectations
    assert old("2.4", sections).expectations


def test_expectations_without_nx() -> None:
    for expectation in old("2.6.18", pae=False).expectations:
        assert isinstance(expectation, Expectation)
        assert expectation.executable is (None if expectation.presence == "none" else True)


def test_an_image_beyond_lowmem_is_refused() -> None:
    """An ordinary image of 2.6.32 ends at 16 MiB + 0xcd0000."""

    def ram_up_to(end: int) -> Prediction:
        return Prediction(configuration("2.6.32", e820=(E820Entry(0, end, 1),)))

    assert ram_up_to(0x1CD0000).expectations
    with pytest.raises(UsageError, match="image ends at 0xc1cd0000, and lowmem at 0xc1ccf000"):
        _ = ram_up_to(0x1CCF000).expectations

"""The eras' table against its witnesses: the origin text on 2.4, and the DWARF of recorded guests of 6.1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from every_era import ALL, SIX_ONE
from layouts import predict
from recorded_guest import recording

from kvmtools.model import eras, machine
from kvmtools.records import PAGE_SIZE

FIXTURES = Path(__file__).parents[3] / "fixtures"
MIB = 1 << 20


@pytest.mark.parametrize(("pae", "slots", "used"), [(False, 1024, 4 * MIB), (True, 512, 2 * MIB)])
def test_the_pkmap_area_of_2_4_is_as_the_origin_text_says(pae: bool, slots: int, used: int) -> None:
    # Gorman 2004, 10.1: PKMAP_BASE is at 0xFE000000; FIXADDR_START varies by a few pages, which leaves slightly below
    # 32 MiB for the area; of it a single page of PTEs is used: 1024 pages, with PAE 512.
    layout = predict(machine.configuration("2.4", pae=pae))
    assert layout.pkmap_base == 0xFE000000
    assert layout.fixaddr_start is not None
    assert layout.last_pkmap is not None
    space = layout.fixaddr_start - layout.pkmap_base
    assert 31 * MIB < space < 32 * MIB
    assert layout.last_pkmap == slots
    assert layout.last_pkmap * PAGE_SIZE == used


Recorded = tuple[bool, dict[str, dict[str, int]], dict[str, int]]


@pytest.fixture(params=[False, True], ids=["nopae", "pae"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """Whether it has PAE, its enumerations, and the numbers in its DWARF."""
    pae = request.param
    answers = recording("pae" if pae else "nopae")[1].facts["answers"]
    enumerations = {key.split()[1]: value for key, value in answers.items() if key.startswith("enumerators")}
    return pae, enumerations, answers


def test_6_1_has_the_fixmap_of_a_recorded_guest(recorded: Recorded) -> None:
    pae, enumerations, answers = recorded
    slots = enumerations["fixed_addresses"]
    cpus = answers["array_length typeof(__per_cpu_offset)"]
    assert SIX_ONE.fixmap(cpus, pae=pae) == (
        slots["__end_of_permanent_fixed_addresses"],
        slots["__end_of_fixed_addresses"],
    )
    assert slots["FIX_KMAP_END"] + 1 - slots["FIX_KMAP_BEGIN"] == SIX_ONE.kmap_slots_per_cpu * cpus


def test_6_1_has_the_page_flags_of_a_recorded_guest(recorded: Recorded) -> None:
    flags = recorded[1]["pageflags"]
    count = flags["__NR_PAGEFLAGS"]
    assert len(SIX_ONE.page_flags) == count
    assert [flags[f"PG_{name}"] for name in SIX_ONE.page_flags] == list(range(count))


def test_6_1_has_the_sizes_of_a_recorded_guest(recorded: Recorded) -> None:
    _, enumerations, answers = recorded
    assert SIX_ONE.page_struct_size == answers["sizeof struct page"]
    assert SIX_ONE.cpu_entry_area_size == answers["sizeof struct cpu_entry_area"]
    assert SIX_ONE.max_order == answers["array_length struct zone free_area"]
    zones = enumerations["zone_type"]
    assert [f"ZONE_{name}" for name in SIX_ONE.zone_names] == sorted(
        (name for name in zones if name.startswith("ZONE_")), key=zones.__getitem__
    )


BUILT: dict[str, dict[str, int]] = json.loads((FIXTURES / "kernels" / "gdb.json").read_text())
"""What gdb says of built kernels of four eras, with PAE and without (``fixtures/kernels``)."""


def test_kernels_of_four_eras_were_asked() -> None:
    names = [f"{era} {kernel}" for era in ("5.10", "6.1", "6.12", "7.2") for kernel in ("nopae", "pae")]
    assert sorted(BUILT) == sorted(set(names) - {"6.12 nopae"})


@pytest.mark.parametrize("kernel", BUILT)
def test_an_era_has_the_types_of_a_built_kernel(kernel: str) -> None:
    era, said = eras.named(kernel.split()[0]), BUILT[kernel]
    assert [said[f"PG_{name}"] for name in era.page_flags] == list(range(said["__NR_PAGEFLAGS"]))
    zones = [said[f"ZONE_{name}"] for name in era.zone_names]
    assert zones == list(range(said["__MAX_NR_ZONES"]))
    assert era.page_struct_size == said["sizeof(struct page)"]
    assert era.cpu_entry_area_size == said["sizeof(struct cpu_entry_area)"]
    assert era.max_order == said["sizeof(((struct zone *)0)->free_area) / sizeof(struct free_area)"]
    kernels = {"refcount": "_refcount", "mapcount": "_mapcount", "next": "lru"}
    assert dict(era.page_members) == {
        name: said[f"&((struct page *)0)->{kernels.get(name, name)}"] for name, _offset in era.page_members
    }


def test_before_5_10_there_was_no_cpu_entry_area() -> None:
    assert [era.cpu_entry_area_size for era in ALL[:4]] == [0] * 4

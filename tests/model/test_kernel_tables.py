"""The built tables of a kernel, against what the map of regions asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from layouts import edges

from kvmtools.errors import UsageError
from kvmtools.model import eras, kernel_tables, machine
from kvmtools.model.paging.page_tables import PageTables
from kvmtools.model.paging.physical import Physical
from kvmtools.model.paging.walk import Fault, translate, walk
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, E820Entry, Image, Leaf, Range

MIB = 1 << 20
NX = 1 << 63
Configure = Callable[..., Configuration]


def built(configuration: Configuration) -> tuple[Prediction, PageTables, list[Leaf]]:
    prediction = Prediction(configuration)
    tables = kernel_tables.build(prediction)
    return prediction, tables, list(walk(tables.memory.read, tables.root, tables.form))


def entry_of(tables: PageTables, virtual: int) -> int:
    leaf = translate(tables.memory.read, tables.root, virtual, tables.form)
    assert isinstance(leaf, Leaf), str(leaf)
    return leaf.entry


@pytest.mark.parametrize("pae", [False, True], ids=["non-PAE", "PAE"])
@pytest.mark.parametrize("era", eras.NAMES)
def test_every_region_holds_what_it_ought_to(era: str, pae: bool) -> None:
    prediction, tables, leaves = built(machine.configuration(era, pae=pae, memory=2048 * MIB))
    faults: list[Fault] = []
    for region in prediction.expectations:
        inside = list(
            walk(tables.memory.read, tables.root, tables.form, region.start, region.end, faults=faults)
        )
        covered = sum(
            min(leaf.virtual + leaf.size, region.end) - max(leaf.virtual, region.start) for leaf in inside
        )
        wanted = region.end - region.start if region.presence == "all" else 0
        assert covered == wanted, region
        for leaf in inside:
            if region.physical is not None:
                assert leaf.physical - leaf.virtual == region.physical - region.start, region
            assert leaf.writable == (region.writable is not False), region
            assert leaf.executable == (bool(region.executable) or not prediction.configuration.nx), region
            assert not leaf.user
    assert faults == []
    large = [leaf for leaf in leaves if leaf.size > 4096]
    assert large
    assert not any(prediction.large_leaf_fault(leaf) for leaf in large)


def test_what_was_chosen_is_said() -> None:
    said = (
        "a large page wherever",
        "writable and not executable",
        "from the end of lowmem",
        "nothing in the vmalloc",
    )
    assert len(kernel_tables.CHOICES) == len(said)
    assert all(words in choice for words, choice in zip(said, kernel_tables.CHOICES, strict=True))


@pytest.mark.parametrize("pae", [False, True], ids=["non-PAE", "PAE"])
@pytest.mark.parametrize("whose", ["measured", "ordinary"])
def test_a_large_page_wherever_the_kernel_may_have_one(configure: Configure, pae: bool, whose: str) -> None:
    # The ordinary image has large pages that its data and its init sections share.
    configuration = configure if whose == "measured" else machine.configuration
    prediction, _, leaves = built(configuration(pae=pae, memory=512 * MIB))
    size = (2 if pae else 4) * MIB
    small = {leaf.virtual // size * size for leaf in leaves if leaf.size == 4096}
    rights: dict[int, set[tuple[bool, bool]]] = {}
    for leaf in leaves:
        rights.setdefault(leaf.virtual // size * size, set()).add((leaf.writable, leaf.executable))
    for virtual in small:
        whole = Leaf(virtual, virtual - 0xC0000000, size, 0, 2, 0, 0, True, False, True)
        assert prediction.large_leaf_fault(whole) or len(rights[virtual]) > 1, hex(virtual)


@pytest.mark.parametrize(
    ("era", "rodata"), [("6.1", 0x161), ("6.12", 0x121)], ids=["dirty as ever", "clean since 6.12"]
)
def test_entries_are_the_kernels_own(configure: Configure, era: str, rodata: int) -> None:
    # FACTS B.4: a leaf read from a 6.1 guest is 0x8000000000000163; B.2: read-only ones lost the dirty bit in 6.12.
    _, tables, _ = built(configure(marks=machine.configuration(era).marks))
    physical = ~(NX | 0xFFF)
    assert entry_of(tables, 0xC0001000) & ~physical == NX | 0x163
    assert entry_of(tables, 0xC1400000) & ~physical == NX | rodata
    assert entry_of(tables, 0xC1000000) & ~physical in (rodata, rodata | 0x80)
    assert entry_of(tables, 0xC8000000) == 0x8000000 | NX | 0x1E3


def test_all_entries_are_global_or_none_is(configure: Configure) -> None:
    for changes, flag in (({}, 0x100), ({"pge": False}, 0), ({"pge": False, "pti": True}, 0)):
        _, _, leaves = built(configure(memory=64 * MIB, **changes))
        assert {leaf.entry & 0x100 for leaf in leaves} == {flag}


def global_ranges(leaves: list[Leaf]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for leaf in leaves:
        if leaf.entry & 0x100 and found and found[-1][1] == leaf.virtual:
            found[-1] = found[-1][0], leaf.virtual + leaf.size
        elif leaf.entry & 0x100:
            found.append((leaf.virtual, leaf.virtual + leaf.size))
    return found


@pytest.mark.parametrize(
    ("changes", "start", "end"),
    [
        # mm/pti.c: text up to 0xc13ff123 and rodata, to 0xc1580000, are copied to the user's half in pti=auto, and with
        # the entry text the large page that it was in.
        ({}, 0xC1000000, 0xC1580000),
        # Measured in a 6.1 guest with pti=on: text is not global, but all is that shared 2 MiB with the entry text.
        ({"command_line": "pti=on"}, 0xC1200000, 0xC1400000),
        ({"command_line": "pti=on mem=nopentium"}, 0xC13FF000, 0xC1400000),
        ({"command_line": "pti=on", "image_at": 17 * MIB}, 0xC1400000, 0xC1600000),
        ({"image_at": 17 * MIB}, 0xC1100000, 0xC1680000),
        ({"image_at": 17 * MIB, "page_offset": 0x80000000}, 0x81100000, 0x81680000),
    ],
)
def test_what_isolation_leaves_global(
    configure: Configure, changes: dict[str, Any], start: int, end: int
) -> None:
    prediction, _, leaves = built(configure(memory=64 * MIB, pti=True, **changes))
    base = edges(prediction.layout).cpu_entry_area_base
    assert base is not None
    image, *entry_area = global_ranges(leaves)
    assert image == (start, end)
    # cea_set_pte(): all that is present there. IDT and GDT, the two stacks, the TSS of the only CPU.
    assert [at - base for at, _ in entry_area] == [0, 0x3000, 0x5000]
    assert (
        sum(stop - at for at, stop in entry_area)
        == len([leaf for leaf in leaves if leaf.virtual >= base]) * 4096
    )


@pytest.mark.parametrize(("etext", "start"), [(0xC1400000, 0xC1200000), (0xC1400001, 0xC1400000)])
def test_the_entry_text_is_where_the_last_byte_of_text_is(
    configure: Configure, etext: int, start: int
) -> None:
    image = configure().image
    moved = replace(image, sections={**image.sections, "_etext": etext})
    _, _, leaves = built(configure(memory=64 * MIB, pti=True, command_line="pti=on", image=moved))
    assert global_ranges(leaves)[0] == (start, start + 2 * MIB)


def test_isolation_that_ends_before_rodata_does_or_after(configure: Configure) -> None:
    """Entry text and rodata in the same large page: whichever ends later counts."""
    ordinary = configure(memory=64 * MIB, pti=True)
    for end_rodata, end in ((0xC1500000, 0xC1500000), (0xC1380000, 0xC1400000), (0xC13FF800, 0xC1400000)):
        sections = ordinary.image.sections | {"_etext": 0xC1300000, "__end_rodata": end_rodata}
        _, _, leaves = built(replace(ordinary, image=Image(0, sections)))
        assert global_ranges(leaves)[0] == (0xC1000000, end)


def test_a_guest_with_isolation_entry_by_entry(configure: Configure) -> None:
    """Read with ``kvmtools vtop`` from a 6.1 guest with pti=on, whose image was as long as this one."""
    ordinary = configure(memory=64 * MIB, pti=True, command_line="pti=on")
    sections = ordinary.image.sections | {"_etext": 0xC12A9F00, "__end_rodata": 0xC13A8000}
    prediction, tables, _ = built(replace(ordinary, image=Image(0, sections)))
    base = edges(prediction.layout).cpu_entry_area_base
    assert base is not None
    flags = NX | 0xFFF
    assert entry_of(tables, base) & flags == NX | 0x161
    assert entry_of(tables, base + 0x1000) & flags == NX | 0x163
    assert entry_of(tables, 0xC1000000) & flags == 0x0E1  # text
    assert entry_of(tables, 0xC12A7000) & flags == 0x161  # entry text
    assert entry_of(tables, 0xC12AA000) & flags == NX | 0x161  # rodata
    assert entry_of(tables, 0xC13A8000) & flags == NX | 0x163  # data
    assert entry_of(tables, sections["idt_table"]) & flags == NX | 0x061
    assert entry_of(tables, 0xC1800000) & flags == NX | 0x0E3


@pytest.mark.parametrize(
    ("pti", "nr_cpus", "era", "words"),
    [
        (False, 1, "6.1", ["frames of the CPU entry area"]),
        (False, 2, "6.1", ["frames of the CPU entry area", "one possible CPU"]),
        (True, 1, "6.1", ["frames of the CPU entry area", "the entry text ends where"]),
        (True, 2, "6.1", ["frames of the CPU entry area", "one possible CPU", "the entry text ends where"]),
        (False, 2, "2.6.32", []),
    ],
)
def test_what_was_chosen_for_a_kernel(pti: bool, nr_cpus: int, era: str, words: list[str]) -> None:
    chosen = kernel_tables.choices(Prediction(machine.configuration(era, pti=pti, nr_cpus=nr_cpus)))
    assert chosen[:4] == kernel_tables.CHOICES
    assert len(chosen) == 4 + len(words)
    assert all(choice.startswith(word) for choice, word in zip(chosen[4:], words, strict=True))


def test_without_nx_everything_can_be_executed(configure: Configure) -> None:
    _, tables, leaves = built(configure(nx=False, memory=64 * MIB))
    assert all(leaf.executable for leaf in leaves)
    assert entry_of(tables, 0xC0001000) == 0x1163


def test_without_large_pages_there_are_small_ones_alone(configure: Configure) -> None:
    _, tables, leaves = built(configure(pae=False, memory=32 * MIB, command_line="mem=nopentium"))
    assert {leaf.size for leaf in leaves} == {4096}
    assert entry_of(tables, 0xC1C00000) == 0x1C00163


def test_tables_lead_on_with_the_kernels_flags(configure: Configure) -> None:
    # FACTS B.2: PDPTEs hold PRESENT alone, tables of ptes are hooked with _PAGE_TABLE.
    steps: list[Any] = []
    _, tables, _ = built(configure())
    translate(tables.memory.read, tables.root, 0xC0001000, tables.form, steps=steps)
    assert [step.entry & 0xFFF for step in steps] == [0x001, 0x067, 0x163]


def test_where_the_tables_lie(configure: Configure) -> None:
    # The end of lowmem, in RAM: with 64 MiB the firmware has the last 128 KiB.
    prediction, tables, _ = built(configure(memory=64 * MIB))
    found = sorted(table.address for table in tables.tables())
    assert found[-1] == tables.root == 64 * MIB - 0x20000 - 0x1000
    assert all(address >> 12 in prediction.ram for address in found)
    memory = tables.memory
    assert isinstance(memory, Physical)
    assert memory.ranges == tuple(Range(r.start * 4096, r.end * 4096) for r in prediction.ram.ranges)
    assert found[0] > 63 * MIB
    assert tables.memory.frames[-1] == found[-1] >> 12


def test_the_frames_of_the_cpu_entry_area_are_nobodys_tables(configure: Configure) -> None:
    prediction, tables, leaves = built(configure(memory=64 * MIB))
    base = edges(prediction.layout).cpu_entry_area_base
    assert base is not None
    used = [leaf.physical for leaf in leaves if leaf.virtual >= base]
    assert len(used) == len(set(used)) > 1
    assert not set(used) & {table.address for table in tables.tables()}


@pytest.mark.parametrize(
    ("era", "pae", "tables"),
    [
        # pgd, pkmap's table, fixmap's: in 2.4 they lie 32 MiB apart (Gorman 10.1), and nothing else is small.
        ("2.4", False, ["pgd", "pte", "pte"]),
        ("2.4", True, ["pgd", "pmd", "pte", "pte"]),
    ],
)
def test_pkmap_and_fixmap_have_their_tables_from_boot_on(era: str, pae: bool, tables: list[str]) -> None:
    prediction, found, _ = built(machine.configuration(era, pae=pae))
    assert [table.level.name for table in found.tables()] == tables
    for address in (edges(prediction.layout).pkmap_base, prediction.layout.fixaddr_start):
        assert address is not None
        fault = translate(found.memory.read, found.root, address, found.form)
        assert isinstance(fault, Fault)
        assert (fault.level, fault.entry) == ("pte", 0)
    fault = translate(found.memory.read, found.root, prediction.layout.vmalloc_start or 0, found.form)
    assert isinstance(fault, Fault)
    assert (fault.level, fault.entry) == ("pmd" if pae else "pgd", 0)


def test_every_part_of_these_areas_is_prepared(configure: Configure) -> None:
    prediction, tables, _ = built(configure(nr_cpus=64, memory=64 * MIB))
    layout = prediction.layout
    for start, end in (
        (layout.pkmap.start, layout.ldt.start),
        (layout.cpu_entry_area.start, layout.cpu_entry_area.end),
        (layout.fixaddr_start, layout.fixaddr_top),
    ):
        assert start is not None
        assert end is not None
        for virtual in Range(start, end).start, end - 4096, (start + end) // 2 & -4096:
            fault = translate(tables.memory.read, tables.root, virtual, tables.form)
            assert isinstance(fault, Leaf) or fault.level == "pte"


def test_no_highmem_no_pkmap() -> None:
    prediction, tables, _ = built(machine.configuration(highmem=False, memory=64 * MIB))
    assert edges(prediction.layout).pkmap_base is None
    assert [table.level.name for table in tables.tables()].count("pgd") == 1


def test_lowmem_must_have_room_for_the_tables() -> None:
    # 2.4 needs three tables here, and an image, were there one, would leave more room than that.
    for pages, enough in ((3, True), (2, False)):
        bare = machine.configuration("2.4", pae=False, e820=(E820Entry(0, pages * 4096, 1),))
        prediction = Prediction(replace(bare, image=Image(0, {})))
        if enough:
            assert len(list(kernel_tables.build(prediction).tables())) == 3
        else:
            with pytest.raises(UsageError, match=r"all of lowmem would be page tables .*more RAM"):
                kernel_tables.build(prediction)

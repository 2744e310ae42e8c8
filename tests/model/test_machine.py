"""Machines that nobody has booted: their maps, and the sizes of an ordinary build."""

from __future__ import annotations

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.machine import configuration, e820_of
from kvmtools.model.prediction import Prediction
from kvmtools.records import E820Entry

MIB, GIB = 1 << 20, 1 << 30


def ram_of(memory: int) -> list[tuple[int, int]]:
    return [(entry.start, entry.start + entry.size) for entry in e820_of(memory) if entry.type == 1]


def test_a_small_pc_has_one_piece_of_ram_above_the_first_mib() -> None:
    """QEMU's pc machine and SeaBIOS, as in the boot log of FACTS' 2 GiB guests: 128 KiB on top are the firmware's."""
    assert e820_of(2 * GIB) == (
        E820Entry(0, 0x9FC00, 1),
        E820Entry(0x9FC00, 0x400, 2),
        E820Entry(0xF0000, 0x10000, 2),
        E820Entry(0x100000, 0x7FFE0000 - 0x100000, 1),
        E820Entry(0x7FFE0000, 0x20000, 2),
        E820Entry(0xFFFC0000, 0x40000, 2),
    )


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        # pc_piix.c: below 3.5 GiB all of it is below 4 GiB; from there on, 3 GiB are.
        (3584 * MIB - MIB, [(0, 0x9FC00), (0x100000, 3583 * MIB - 0x20000)]),
        (3584 * MIB, [(0, 0x9FC00), (0x100000, 3 * GIB - 0x20000), (4 * GIB, 4 * GIB + 512 * MIB)]),
        (64 * GIB, [(0, 0x9FC00), (0x100000, 3 * GIB - 0x20000), (4 * GIB, 65 * GIB)]),
        (0x120001, [(0, 0x9FC00), (0x100000, 0x100001)]),
    ],
)
def test_the_pci_hole(memory: int, expected: list[tuple[int, int]]) -> None:
    assert ram_of(memory) == expected


def test_no_pc_is_that_small() -> None:
    with pytest.raises(UsageError, match=r"1179648 bytes of RAM are too few.*64M"):
        e820_of(0x120000)


def test_an_ordinary_machine() -> None:
    found = configuration()
    assert (found.pae, found.nx, found.physical_bits) == (True, True, 36)
    assert (found.page_offset, found.nr_cpus, found.highmem, found.sparsemem) == (0xC0000000, 4, True, False)
    assert (found.page_struct_size, found.max_order, found.cpu_entry_area_size) == (32, 11, 43 * 4096)
    assert found.zone_names == ("DMA", "NORMAL", "HIGHMEM", "MOVABLE")
    assert (found.pge, found.pse, found.pti, found.debug_pagealloc) == (True, True, False, False)
    assert found.command_line == ""
    assert found.e820 == e820_of(4 * GIB)
    assert found.image.slide == 0
    assert found.image.sections["_text"] == 0xC1000000
    assert eras.shown(found.marks).name == "6.1"


def test_what_is_given_is_taken() -> None:
    table = (E820Entry(0, GIB, 1),)
    found = configuration(
        "2.6.24",
        pae=False,
        e820=table,
        page_offset=0x80000000,
        nr_cpus=2,
        highmem=False,
        sparsemem=True,
        command_line="quiet",
        page_struct_size=36,
        cpu_entry_area_size=4096,
        fixmap_slots=(7, 9),
        pti=True,
        zone_dma=False,
    )
    assert found.e820 == table
    assert (found.pae, found.nx, found.physical_bits) == (False, False, 32)
    assert (found.page_offset, found.nr_cpus, found.highmem, found.sparsemem) == (0x80000000, 2, False, True)
    assert (found.command_line, found.page_struct_size, found.cpu_entry_area_size) == ("quiet", 36, 4096)
    assert (found.end_of_permanent_fixed_addresses, found.end_of_fixed_addresses) == (7, 9)
    assert found.pti
    assert found.zone_names == ("NORMAL", "MOVABLE")
    assert found.image.sections["_text"] == 0x80100000


def test_ram_is_said_once() -> None:
    assert configuration(memory=GIB).e820 == e820_of(GIB)
    with pytest.raises(UsageError, match="both say how much RAM"):
        configuration(memory=GIB, e820=e820_of(GIB))


def test_an_era_that_never_was() -> None:
    with pytest.raises(UsageError, match=r"no era is named '3\.0'"):
        configuration("3.0")


@pytest.mark.parametrize("era", eras.NAMES)
def test_an_era_is_recognised_by_the_marks_it_is_given(era: str) -> None:
    assert eras.shown(configuration(era).marks).name == era
    assert configuration(era, pae=True).nx == (era != "2.4")
    assert not configuration(era, pae=False).nx


@pytest.mark.parametrize("era", eras.NAMES)
@pytest.mark.parametrize("pae", [False, True])
def test_every_era_boots_on_every_size_of_memory(era: str, pae: bool) -> None:
    """From 64 MiB to 64 GiB; all of it worked out from ranges."""
    for memory in (64 * MIB, 896 * MIB, GIB, 4 * GIB, 64 * GIB):
        prediction = Prediction(configuration(era, pae=pae, memory=memory))
        assert prediction.expectations[-1].end == 1 << 32
        assert sum(map(prediction.present, prediction.zones)) > 0
        assert prediction.memmap.length is not None
        assert prediction.memmap.length >= max(zone.end_pfn for zone in prediction.zones)


def test_the_image_is_in_order() -> None:
    """Sections follow one another as vmlinux.lds.S has them, each on a page of its own."""
    sections = configuration().image.sections
    order = [
        "_text", "_etext", "__start_rodata", "__end_rodata", "_sdata", "_edata", "__init_begin", "__init_end",
        "__bss_start", "idt_table", "__bss_stop", "__brk_base", "__brk_limit", "_end",
    ]  # fmt: skip
    assert list(sections) == order
    assert list(sections.values()) == sorted(sections.values())
    assert all(at % 4096 == 0 for at in sections.values())


@pytest.mark.parametrize(
    ("era", "slots"),
    [
        # 2.6.18: 72 slots, and 13 for each of 4 CPUs with highmem only; then 16 for booting and the WP test's.
        ("2.6.18", (72, 89)),
        # 6.1 without PAE: 69 and 16 for each of 4 CPUs in any case; 512 and one more fit into the same table.
        ("6.1", (133, 646)),
    ],
)
def test_slots_of_a_kernel_without_highmem(era: str, slots: tuple[int, int]) -> None:
    found = configuration(era, pae=False, highmem=False)
    assert (found.end_of_permanent_fixed_addresses, found.end_of_fixed_addresses) == slots


@pytest.mark.parametrize(
    ("era", "end"), [("2.4", 0xC0434000), ("2.6.24", 0xC0434000), ("2.6.32", 0xC1CD0000), ("6.1", 0xC1CD0000)]
)
def test_images_that_lie_at_1_mib_are_a_quarter_as_large(era: str, end: int) -> None:
    """0xcd0000 bytes from 16 MiB on, or a quarter of that from 1 MiB on."""
    assert configuration(era).image.sections["_end"] == end

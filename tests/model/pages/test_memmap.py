"""mem_map: its size, its zones, its holes, and the flags that say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.pages import memmap
from kvmtools.model.pages.flags_layout import FlagsLayout, flags_layout
from kvmtools.model.pages.memmap import ZoneRange
from kvmtools.model.prediction import Prediction
from kvmtools.model.rounding import roundup
from kvmtools.records import Configuration, E820Entry, Image, Range

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]


def test_flatmem_zone_is_the_top_two_bits(configure: Configure) -> None:
    """[R]: a highmem page of a kernel without zone DMA has flags 0x4008003e."""
    flags = flags_layout(configure(zone_names=("NORMAL", "HIGHMEM", "MOVABLE")))
    assert (flags.zone_shift, flags.zone_width) == (30, 2)
    assert flags.zone(0x4008003E) == 1
    assert flags.section(0x4008003E) is None


@pytest.mark.parametrize(
    ("zones", "width"), [("A", 0), ("AB", 1), ("ABC", 2), ("ABCD", 2), ("ABCDE", 3), ("ABCDEFGH", 3)]
)
def test_zones_width(configure: Configure, zones: str, width: int) -> None:
    flags = flags_layout(configure(zone_names=tuple(zones)))
    assert (flags.zone_shift, flags.zone_width) == (32 - width, width)
    assert flags.zone(0xFFFFFFFF) == (1 << width) - 1


@pytest.mark.parametrize(
    ("pae", "expected"), [(True, FlagsLayout(25, 7, 23, 2)), (False, FlagsLayout(26, 6, 24, 2))]
)
def test_sparsemem_flags(configure: Configure, pae: bool, expected: FlagsLayout) -> None:
    flags = flags_layout(configure(pae=pae, sparsemem=True))
    assert flags == expected
    word = (5 << expected.section_shift) | (2 << expected.zone_shift) | 0x3F
    assert flags.section(word) == 5
    assert flags.zone(word) == 2


def test_a_hole_has_the_zone_of_the_ram_after_it(configure: Configure) -> None:
    """A hole from 15 to 17 MiB straddles the end of DMA; the RAM that follows it is NORMAL's."""
    prediction = Prediction(configure(command_line="memmap=2M$15M", image_at=64 * MIB))
    assert prediction.memmap.zones == (
        ZoneRange(0, 1, 0, False),
        ZoneRange(1, 0x9F, 0, True),
        ZoneRange(0x9F, 0x100, 0, False),
        ZoneRange(0x100, 0xF00, 0, True),
        ZoneRange(0xF00, 0x1100, 1, False),
        ZoneRange(0x1100, 0x375FE, 1, True),
        ZoneRange(0x375FE, 0x7FFE0, 2, True),
    )
    assert prediction.memmap.hole.flags == {"reserved"}
    assert (prediction.memmap.hole.refcount, prediction.memmap.hole.mapcount) == (1, -1)


def test_the_image_is_reserved_up_to_its_init_sections(configure: Configure) -> None:
    assert Prediction(configure(image_at=64 * MIB)).memmap.image == Range(0x4000, 0x45C0)


def test_ram_that_begins_with_a_zone(configure: Configure) -> None:
    """A hole from 15 MiB to where DMA ends: the RAM after it is all NORMAL's."""
    prediction = Prediction(configure(command_line="memmap=1M$15M", image_at=64 * MIB))
    assert prediction.memmap.zones[3:6] == (
        ZoneRange(0x100, 0xF00, 0, True),
        ZoneRange(0xF00, 0x1000, 1, False),
        ZoneRange(0x1000, 0x375FE, 1, True),
    )


def test_two_symbols_are_enough_for_the_image(configure: Configure) -> None:
    image = Image(0, {"_text": 0xC1000000, "__init_begin": 0xC1400000})
    assert Prediction(configure(image=image)).memmap.image == Range(0x1000, 0x1400)


def test_flatmem_covers_holes_and_whole_blocks(configure: Configure) -> None:
    """3 GiB below the PCI hole and 3 GiB above 4 GiB: the hole costs its 32 bytes per page too."""
    found = Prediction(configure(memory=6 * GIB)).memmap
    assert found.length == 0x1C0000
    assert found.size == 0x1C0000 * 32
    assert found.max_mapnr == 0x1C0000
    assert found.valid == (Range(0, 0x1C0000),)
    assert found.tail == Range(0x1C0000, 0x1C0000)
    assert ZoneRange(0xBFFE0, 0x100000, 2, False) in found.zones


def test_the_last_block_is_filled_up(configure: Configure) -> None:
    """Buddies of the last page may be looked at: the array ends on a boundary of 1024 pages."""
    found = Prediction(configure()).memmap
    assert found.length == 0x80000
    assert found.tail == Range(0x7FFE0, 0x80000)
    assert found.max_mapnr == 0x7FFE0


def test_memory_beyond_max_pfn_has_no_entry(configure: Configure) -> None:
    found = Prediction(configure(command_line="highmem=64M")).memmap
    assert found.max_mapnr == 0x3B5FE
    assert found.length == 0x3B800
    assert found.zones[-1] == ZoneRange(0x375FE, 0x3B5FE, 2, True)


@pytest.mark.parametrize(
    "parameters",
    [{"command_line": "highmem=64M"}, {"highmem": False, "zone_names": ("DMA", "NORMAL", "MOVABLE")}],
)
@pytest.mark.parametrize(("era", "of_ram"), [("5.10", False), ("6.1", False), ("6.12", True), ("7.2", False)])
def test_where_the_array_ends_if_ram_goes_on(
    configure: Configure, parameters: dict[str, Any], era: str, of_ram: bool
) -> None:
    """6.12 makes it as long as the node, zones or not (calculate_node_totalpages); 7.2 takes such RAM away first."""
    known = eras.NAMES[: eras.NAMES.index(era) + 1]
    marks = frozenset[str]().union(*(eras.named(name).marks for name in known))
    prediction = Prediction(configure(marks=marks, **parameters))
    end = prediction.layout.max_pfn
    assert end is not None
    assert prediction.ram.end_pfn > end
    assert prediction.memmap.length == (0x80000 if of_ram else roundup(end, 1024))
    assert prediction.memmap.valid[-1].end == (roundup(end, 1024) if era == "7.2" else end)


def test_flatmem_without_low_ram_is_refused(configure: Configure) -> None:
    table = (E820Entry(4 * MIB, GIB, 1),)
    with pytest.raises(UsageError, match="without pfn 0"):
        _ = Prediction(configure(e820=table)).memmap


def test_sparsemem_has_whole_sections(configure: Configure) -> None:
    """512 MiB sections with PAE; 6 GiB are six below the PCI hole and six from 4 GiB on."""
    configuration = configure(sparsemem=True, memory=6 * GIB)
    prediction = Prediction(configuration)
    assert memmap.present_sections(configuration, prediction.ram) == (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13)
    assert prediction.memmap.valid == (Range(0, 0xC0000), Range(0x100000, 0x1C0000))
    assert prediction.memmap.length is None
    assert prediction.memmap.size is None
    assert prediction.memmap.tail == Range(0, 0)
    assert ZoneRange(0xBFFE0, 0xC0000, 2, False) in prediction.memmap.zones


def test_the_last_sections_rest_belongs_to_the_last_zone(configure: Configure) -> None:
    configuration = configure(pae=False, sparsemem=True)
    found = Prediction(configuration).memmap
    assert found.valid == (Range(0, 0x80000),)
    assert found.zones[-1] == ZoneRange(0x7FFE0, 0x80000, 2, False)


def test_the_rest_of_the_last_of_several_pieces(configure: Configure) -> None:
    """4.25 GiB: 1.25 GiB lie above 4 GiB, two sections of 512 MiB and a half."""
    found = Prediction(configure(sparsemem=True, memory=4 * GIB + 256 * MIB)).memmap
    assert found.valid == (Range(0, 0xC0000), Range(0x100000, 0x160000))
    assert found.zones[-1] == ZoneRange(0x150000, 0x160000, 2, False)


def test_ram_beyond_what_sections_can_name_has_none(configure: Configure) -> None:
    table = (E820Entry(0, GIB, 1), E820Entry(64 * GIB, GIB, 1))
    configuration = configure(sparsemem=True, e820=table)
    assert memmap.present_sections(configuration, Prediction(configuration).ram) == (0, 1)


@pytest.mark.parametrize(
    ("pfn", "order", "reason"),
    [
        (0x10000, 10, ""),
        (0x1000, 10, ""),
        (1, 0, ""),
        (0x7FFC0, 5, ""),
        (0x7FFDF, 0, ""),
        (0x10000, 11, "not below 11"),
        (0x10000, -1, "not below 11"),
        (0x10001, 1, "not aligned"),
        (0x375FC, 2, "one zone"),
        (0x7FFC0, 6, "one zone"),
        (0, 0, "one zone"),
    ],
)
def test_where_a_free_block_can_be(configure: Configure, pfn: int, order: int, reason: str) -> None:
    fault = Prediction(configure()).memmap.buddy_fault(pfn, order)
    assert reason in fault
    assert bool(reason) == bool(fault)

"""Zone spans (FACTS D)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvmtools.errors import UsageError
from kvmtools.model.machine import configuration
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, E820Entry, ZoneSpan

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]


def spans(configuration: Configuration) -> dict[str, tuple[int, int]]:
    return {span.name: (span.start_pfn, span.end_pfn) for span in Prediction(configuration).zones}


def test_three_zones_and_an_empty_one(configure: Configure) -> None:
    assert Prediction(configure()).zones == (
        ZoneSpan("DMA", 1, 0x1000),
        ZoneSpan("NORMAL", 0x1000, 0x375FE),
        ZoneSpan("HIGHMEM", 0x375FE, 0x7FFE0),
        ZoneSpan("MOVABLE", 0, 0),
    )


def test_present_pages_leave_holes_out(configure: Configure) -> None:
    prediction = Prediction(configure(memory=6 * GIB))
    dma, normal, highmem, movable = prediction.zones
    assert prediction.present(dma) == 0x9E + 0xF00
    assert prediction.present(normal) == 0x375FE - 0x1000
    assert prediction.present(highmem) == 0xBFFE0 - 0x375FE + 0xC0000
    assert prediction.present(movable) == 0
    assert highmem.end_pfn - highmem.start_pfn == 0x1C0000 - 0x375FE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"zone_names": ("NORMAL", "HIGHMEM", "MOVABLE")},
            {"NORMAL": (1, 0x375FE), "HIGHMEM": (0x375FE, 0x7FFE0), "MOVABLE": (0, 0)},
        ),
        (
            {"memory": 64 * MIB},
            {"DMA": (1, 0x1000), "NORMAL": (0x1000, 0x3FE0), "HIGHMEM": (0, 0), "MOVABLE": (0, 0)},
        ),
        (
            {"zone_names": ("DMA", "DMA32", "NORMAL", "HIGHMEM")},
            {"DMA": (1, 0x1000), "DMA32": (0, 0), "NORMAL": (0x1000, 0x375FE), "HIGHMEM": (0x375FE, 0x7FFE0)},
        ),
        (
            {"memory": 512 * MIB, "command_line": "highmem=64M"},
            {
                "DMA": (1, 0x1000),
                "NORMAL": (0x1000, 0x1BFE0),
                "HIGHMEM": (0x1BFE0, 0x1FFE0),
                "MOVABLE": (0, 0),
            },
        ),
        (
            # 1 GiB of RAM for the kernel; 98 pages below 1 MiB are none; then up to a block of 1024.
            {"command_line": "kernelcore=1G"},
            {
                "DMA": (1, 0x1000),
                "NORMAL": (0x1000, 0x375FE),
                "HIGHMEM": (0x375FE, 0x40400),
                "MOVABLE": (0x40400, 0x7FFE0),
            },
        ),
        (
            {"command_line": "movablecore=1G"},
            {
                "DMA": (1, 0x1000),
                "NORMAL": (0x1000, 0x375FE),
                "HIGHMEM": (0x375FE, 0x40000),
                "MOVABLE": (0x40000, 0x7FFE0),
            },
        ),
        (
            {"command_line": "movablecore=50%"},
            {
                "DMA": (1, 0x1000),
                "NORMAL": (0x1000, 0x375FE),
                "HIGHMEM": (0x375FE, 0x40000),
                "MOVABLE": (0x40000, 0x7FFE0),
            },
        ),
        (
            # Lowmem alone is enough for the kernel: all of HIGHMEM but its unaligned start is movable.
            {"command_line": "kernelcore=64M"},
            {
                "DMA": (1, 0x1000),
                "NORMAL": (0x1000, 0x375FE),
                "HIGHMEM": (0x375FE, 0x37800),
                "MOVABLE": (0x37800, 0x7FFE0),
            },
        ),
        (
            {"memory": 512 * MIB, "command_line": "kernelcore=64M"},
            {"DMA": (1, 0x1000), "NORMAL": (0x1000, 0x4400), "HIGHMEM": (0, 0), "MOVABLE": (0x4400, 0x1FFE0)},
        ),
    ],
)  # fmt: skip
def test_spans(
    configure: Configure, changes: dict[str, object], expected: dict[str, tuple[int, int]]
) -> None:
    assert spans(configure(**changes)) == expected


@pytest.mark.parametrize(
    "command_line", ["kernelcore=4G", "kernelcore=mirror", "movablecore=0", "kernelcore=2096632K"]
)
def test_no_movable_zone(configure: Configure, command_line: str) -> None:
    """More kernelcore than RAM, or so much that the aligned start lies beyond it."""
    assert spans(configure(command_line=command_line))["MOVABLE"] == (0, 0)


def test_ram_that_begins_high_begins_its_zone(configure: Configure) -> None:
    table = (E820Entry(2 * MIB, 510 * MIB, 1),)
    assert spans(configure(e820=table))["DMA"] == (0x200, 0x1000)


def test_memory_beyond_max_pfn_is_in_no_zone(configure: Configure) -> None:
    prediction = Prediction(configure(command_line="highmem=64M"))
    assert prediction.zones[2] == ZoneSpan("HIGHMEM", 0x375FE, 0x3B5FE)
    assert prediction.present(prediction.zones[2]) == 0x4000


def test_a_zone_of_another_architecture_is_refused(configure: Configure) -> None:
    with pytest.raises(UsageError, match="no zone DEVICE"):
        spans(configure(zone_names=("NORMAL", "HIGHMEM", "MOVABLE", "DEVICE")))


@pytest.mark.parametrize(
    ("pages", "max_low_pfn"),
    [
        # lowmem_pfn_init: what highmem= leaves must be 64 MiB at least; else the option is ignored.
        (0x7FE0 - 0x4000, 0x4000),
        (0x7FE0 - 0x3FFF, 0x7FE0),
        (0x7FE0, 0x7FE0),
        (0x7FE1, 0x7FE0),
    ],
)
def test_the_least_lowmem_that_highmem_leaves(configure: Configure, pages: int, max_low_pfn: int) -> None:
    found = Prediction(configure(memory=128 * MIB, command_line=f"highmem={pages * 4}K"))
    assert found.layout.max_low_pfn == max_low_pfn
    assert found.layout.max_pfn == 0x7FE0


@pytest.mark.parametrize(("pages", "max_low_pfn"), [(0x375FE, 0x335FE), (0x375FF, 0x375FE)])
def test_ram_that_just_fits_into_lowmem(configure: Configure, pages: int, max_low_pfn: int) -> None:
    """MAXMEM_PFN is 0x375fe [R]: up to there highmem= takes from lowmem, beyond it limits highmem."""
    found = Prediction(configure(e820=(E820Entry(0, pages << 12, 1),), command_line="highmem=64M"))
    assert found.layout.max_low_pfn == max_low_pfn
    assert found.layout.max_pfn == pages


def test_movable_ends_where_highmem_does(configure: Configure) -> None:
    """highmem=64M leaves 0x4000 pages from 0x375fe on; the kernel's share is all lowmem."""
    found = spans(configure(command_line="highmem=64M kernelcore=64M"))
    assert (found["HIGHMEM"], found["MOVABLE"]) == ((0x375FE, 0x37800), (0x37800, 0x3B5FE))


def test_one_mirror_is_enough(configure: Configure) -> None:
    """cmdline_parse_kernelcore: "mirror" sets a flag, whatever else is given."""
    for command_line in ("kernelcore=64M kernelcore=mirror", "kernelcore=mirror kernelcore=64M"):
        assert spans(configure(command_line=command_line))["MOVABLE"] == (0, 0)


def test_a_share_that_ends_with_lowmem(configure: Configure) -> None:
    """highmem= puts the end of lowmem at 384 MiB, on a boundary of blocks: MOVABLE begins right there."""
    found = spans(configure(memory=512 * MIB, command_line=f"highmem={0x7FE0 * 4}K kernelcore=64M"))
    assert (found["HIGHMEM"], found["MOVABLE"]) == ((0, 0), (0x18000, 0x1FFE0))


def test_the_last_size_counts(configure: Configure) -> None:
    one = spans(configure(command_line="kernelcore=1G"))
    assert spans(configure(command_line="kernelcore=64M kernelcore=1G")) == one


def test_non_pae_ends_at_4_gib(configure: Configure) -> None:
    """MAX_NONPAE_PFN; one entry may reach beyond it."""
    table = (E820Entry(0, 8 * GIB, 1),)
    assert Prediction(configure(pae=False, e820=table)).layout.max_pfn == 0x100000
    assert Prediction(configure(e820=table)).layout.max_pfn == 0x200000


@pytest.mark.parametrize(
    ("gib", "command_line", "movable"),
    [
        # 3 GiB of QEMU's are 0xbff7e pages, of which 0x3759c are lowmem, which ends at 0x375fe.
        (3, "kernelcore=50%", (0x60400, 0xBFFE0)),
        (3, "kernelcore=64M kernelcore=50%", (0x60400, 0xBFFE0)),
        (3, "kernelcore=37%", (0x47400, 0xBFFE0)),
        (3, "kernelcore=47%", (0x5A400, 0xBFFE0)),
        (3, "movablecore=53%", (0x5A400, 0xBFFE0)),
        # totalpages * 100 * percent is an unsigned long: 0xbff7e * 10000 leaves 3568052704, which is 45 % and a bit.
        (3, "movablecore=100%", (0x68C00, 0xBFFE0)),
        (3, "movablecore=54%", (0x58400, 0xBFFE0)),
        (3, "movablecore=55%", (0xBF400, 0xBFFE0)),
        # 63 GiB are 0xfbff7e pages; half of them is 97545 after 19 overflows: less than lowmem has.
        (63, "kernelcore=50%", (0x37800, 0x1000000)),
        (63, "movablecore=4M", (0xFFFC00, 0x1000000)),
        (63, "movablecore=4100K", (0xFFF800, 0x1000000)),
    ],
)
def test_percent_and_blocks(
    configure: Configure, gib: int, command_line: str, movable: tuple[int, int]
) -> None:
    assert spans(configure(memory=gib * GIB, command_line=command_line))["MOVABLE"] == movable


@pytest.mark.parametrize(("era", "start"), [("2.6.24", 0), ("2.6.32", 0), ("5.10", 0x60400)])
def test_percent_came_with_4_17(era: str, start: int) -> None:
    """Before, 50% was 50 bytes."""
    found = Prediction(configuration(era, memory=3 * GIB, command_line="kernelcore=50%")).zones
    assert {zone.name: zone.start_pfn for zone in found}["MOVABLE"] == start

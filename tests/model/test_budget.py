"""The bill of every kind of mem_map, to the byte: figures worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from debate import MAXMEM, SIXTY_FOUR, THREE_AND_ONE, ram

from kvmtools.errors import UsageError
from kvmtools.model import budget, eras, machine
from kvmtools.model.budget import (
    FLATMEM,
    KINDS,
    SPARSEMEM,
    VIRTUAL,
    VIRTUAL_LARGE,
    VIRTUAL_LARGE_LOWMEM,
    VIRTUAL_LOWMEM,
)
from kvmtools.records import Configuration

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Configure = Callable[..., Configuration]


def test_the_six_kinds() -> None:
    assert KINDS == (FLATMEM, SPARSEMEM, VIRTUAL, VIRTUAL_LARGE, VIRTUAL_LOWMEM, VIRTUAL_LARGE_LOWMEM)
    assert [(kind.name, kind.memory_model, kind.large, kind.lowmem_backed) for kind in KINDS] == [
        ("FLATMEM", "FLATMEM", False, False),
        ("SPARSEMEM", "SPARSEMEM", False, False),
        ("virtual 4K highmem", "virtual", False, False),
        ("virtual large highmem", "virtual", True, False),
        ("virtual 4K lowmem", "virtual", False, True),
        ("virtual large lowmem", "virtual", True, True),
    ]


def test_a_bill_to_the_byte(configure: Configure) -> None:
    """64 GiB with a hole of 1 GiB; 24 MiB and 480 MiB of struct page, 12 and 240 page tables of 2 MiB each."""
    configuration = configure(e820=SIXTY_FOUR)
    flat, sparse, virtual, large, low, _ = (budget.budget(configuration, kind) for kind in KINDS)

    assert (flat.window, flat.backing, flat.page_tables, flat.mem_section) == (0, 512 * MIB, 0, 0)
    assert (flat.left, flat.lost, flat.virtual) == (MAXMEM - 512 * MIB, 512 * MIB, 512 * MIB)
    assert (flat.from_lowmem, flat.from_highmem, flat.physical) == (512 * MIB, 0, 512 * MIB)
    assert (flat.kernel_space, flat.share) == (GIB, 0.5)
    assert (flat.dma, flat.normal_left) == (16 * MIB, MAXMEM - 528 * MIB)
    assert flat.lowmem == MAXMEM
    # Pfn 0, and 0xa0 to 0xff: the BIOS's.
    assert flat.memory == 63 * GIB - 97 * 4096

    # 128 sections of 8 bytes in the bss, 126 pieces of 4 MiB.
    assert (sparse.window, sparse.backing, sparse.page_tables, sparse.mem_section) == (0, 504 * MIB, 0, KIB)
    assert (sparse.left, sparse.lost) == (MAXMEM - 504 * MIB - KIB, 504 * MIB + KIB)
    assert (sparse.from_highmem, sparse.lowmem, sparse.lowmem_without) == (0, MAXMEM, MAXMEM)
    assert (sparse.kernel_space, sparse.dma, sparse.memory) == (GIB, 16 * MIB, flat.memory)

    assert (virtual.window, virtual.backing, virtual.page_tables) == (512 * MIB, 504 * MIB, 252 * 4096)
    assert (virtual.lowmem, virtual.lowmem_without) == (MAXMEM - 512 * MIB, MAXMEM)
    assert (virtual.from_lowmem, virtual.from_highmem) == (252 * 4096, 504 * MIB)
    assert (virtual.physical, virtual.virtual) == (504 * MIB + 252 * 4096, 512 * MIB + 252 * 4096)
    assert (virtual.left, virtual.lost) == (373 * MIB + 8 * KIB, 512 * MIB + 252 * 4096)
    assert (virtual.kernel_space, virtual.dma, virtual.mem_section) == (GIB, 16 * MIB, 0)
    assert (virtual.memory, virtual.boots, virtual.refusal) == (flat.memory, True, "")

    assert (large.page_tables, large.from_lowmem, large.backing) == (0, 0, 504 * MIB)
    assert large.left == MAXMEM - 512 * MIB

    assert (low.from_highmem, low.from_lowmem) == (0, 504 * MIB + 252 * 4096)
    assert not low.boots
    assert low.left < 0
    assert low.normal_left == 0


def test_pageblock_bits(configure: Configure) -> None:
    """4 bits for every 4 MiB: of all that is spanned, or of every section."""
    configuration = configure(e820=SIXTY_FOUR)
    usemap = {kind: budget.budget(configuration, kind).usemap for kind in KINDS}
    assert usemap == dict.fromkeys(KINDS, 8192) | {SPARSEMEM: 126 * 64}
    # 5 MiB end in the second block: one byte.
    assert budget.budget(configure(memory=GIB, command_line="mem=36M"), FLATMEM).usemap == 4


def test_non_pae_sections_and_leaves(configure: Configure) -> None:
    """64 MiB sections of 512 KiB; 64 sections; leaves and page tables of 4 MiB; 2 GiB less the BIOS's 128 KiB."""
    configuration = configure(pae=False, memory=2 * GIB)
    flat, sparse, virtual, large = (
        budget.budget(configuration, kind) for kind in (FLATMEM, SPARSEMEM, VIRTUAL, VIRTUAL_LARGE)
    )
    assert flat.backing == 16 * MIB
    assert (sparse.backing, sparse.mem_section) == (32 * 512 * KIB, 512)
    # The struct pages of the last 32 pfns are a quarter of a page of the map.
    assert (virtual.window, virtual.backing, virtual.page_tables) == (16 * MIB, 16 * MIB, 4 * 4096)
    assert (large.window, large.backing, large.page_tables) == (16 * MIB, 16 * MIB, 0)
    assert flat.lowmem_without == 0x373FE000


def test_a_window_is_whole_directory_entries(configure: Configure) -> None:
    """1 GiB and 4 MiB: 8 MiB and 32 KiB of struct page."""
    e820 = ram((0, 1 + 4 / 1024))
    assert budget.budget(configure(e820=e820), VIRTUAL).window == 10 * MIB
    assert budget.budget(configure(e820=e820), VIRTUAL).page_tables == 5 * 4096
    assert budget.budget(configure(e820=e820), VIRTUAL).backing == 8 * MIB + 32 * KIB
    assert budget.budget(configure(e820=e820), VIRTUAL_LARGE).backing == 10 * MIB
    assert budget.budget(configure(pae=False, e820=e820), VIRTUAL).window == 12 * MIB


def test_without_highmem_lowmem_backs_the_map_and_the_window_is_free(configure: Configure) -> None:
    """512 MiB: lowmem's virtual space is not used up, so that a window costs none of it."""
    configuration = configure(e820=ram((0, 0.5)))
    for kind, taken in ((VIRTUAL, 4 * MIB + 2 * 4096), (VIRTUAL_LARGE, 4 * MIB)):
        bill = budget.budget(configuration, kind)
        assert (bill.lowmem, bill.from_highmem) == (512 * MIB, 0)
        assert (bill.from_lowmem, bill.lost, bill.virtual) == (taken, taken, 4 * MIB + taken)
        assert bill.boots


def test_a_little_highmem_backs_a_part(configure: Configure) -> None:
    """880 MiB: a window of 8 MiB pushes 2 MiB and 8 KiB of RAM out of lowmem, which then back a part of the map."""
    configuration = configure(e820=ram((0, 880 / 1024)))
    bill = budget.budget(configuration, VIRTUAL)
    assert bill.lowmem == MAXMEM - 8 * MIB
    assert bill.backing == 880 * MIB // 128
    assert bill.from_highmem == 880 * MIB - (MAXMEM - 8 * MIB) == 2 * MIB + 8 * KIB
    # No whole large page is among them but one, at 0x36e00000.
    assert budget.budget(configuration, VIRTUAL_LARGE).from_highmem == 2 * MIB


def test_lowmem_that_is_no_zone_dma(configure: Configure) -> None:
    configuration = configure(zone_names=("NORMAL", "HIGHMEM", "MOVABLE"))
    for kind in (FLATMEM, VIRTUAL):
        bill = budget.budget(configuration, kind)
        assert bill.dma == 0
        assert bill.normal_left == bill.left
    bill = budget.budget(configure(command_line="mem=12M", image_at=MIB), FLATMEM)
    assert (bill.dma, bill.normal_left) == (12 * MIB, 0)


def test_other_splits_have_more_kernel_space(configure: Configure) -> None:
    bill = budget.budget(configure(page_offset=0x40000000, e820=SIXTY_FOUR), FLATMEM)
    assert bill.kernel_space == 3 * GIB
    assert bill.share == pytest.approx(1 / 6)
    assert bill.left == MAXMEM + 2 * GIB - 512 * MIB


def test_memory_beyond_max_pfn_is_not_counted(configure: Configure) -> None:
    """A kernel without HIGHMEM drops all RAM above MAXMEM; so does highmem= with what it does not ask for."""
    without = configure(highmem=False, zone_names=("DMA", "NORMAL", "MOVABLE"), e820=THREE_AND_ONE)
    bill = budget.budget(without, FLATMEM)
    assert bill.memory == bill.lowmem - 97 * 4096
    virtual = budget.budget(without, VIRTUAL)
    assert virtual.window == 8 * MIB
    # With the window out of its way, lowmem ends sooner; nothing can use what lies between.
    assert virtual.lowmem == virtual.lowmem_without - 8 * MIB
    some = budget.budget(configure(command_line="highmem=1M", e820=THREE_AND_ONE), VIRTUAL)
    assert some.memory == MAXMEM + MIB - 97 * 4096


def test_figures_of_every_era() -> None:
    """4 GiB of QEMU: 5 GiB of pfns; 896 MiB until 2.6.24; sections of 1 GiB in 2.6.18 and 2.6.24, 512 MiB later.

    propagate_e820_map of 2.6.24, e820_32.c, calls memory_present() for every range of RAM: the hole has no section.
    """
    expected: dict[str, Any] = {
        "2.6.18": (896, 40 * MIB, 4 * 8 * MIB),
        "2.6.24": (896, 40 * MIB, 4 * 8 * MIB),
    }
    for era, (lowmem, flat_bytes, sparse_bytes) in expected.items():
        configuration = machine.configuration(era, memory=4 * GIB, page_struct_size=32)
        flat, sparse = (budget.budget(configuration, kind) for kind in (FLATMEM, SPARSEMEM))
        assert (flat.lowmem, flat.backing, sparse.backing) == (lowmem * MIB, flat_bytes, sparse_bytes)
        assert sparse.mem_section == 64 * 8
    # 7.2 drops what lies above 4 GiB, so that only 3 GiB of pfns are left; the BIOS takes a part of page 0x9f.
    newest = machine.configuration("7.2", memory=4 * GIB, page_struct_size=32)
    assert budget.budget(newest, FLATMEM).memory == 3 * GIB - 0x20000 - 98 * 4096


def test_2_4_has_no_sparsemem() -> None:
    """sizeof(struct page) was about 64 bytes, and MAXMEM 896 MiB: 64 GiB could not be had."""
    old = machine.configuration("2.4", memory=64 * GIB)
    assert not budget.has_sparsemem(old)
    assert budget.kinds(old) == tuple(kind for kind in KINDS if kind is not SPARSEMEM)
    assert not budget.budget(old, FLATMEM).boots
    for era in eras.NAMES[1:]:
        assert budget.has_sparsemem(machine.configuration(era))
        assert budget.kinds(machine.configuration(era)) == KINDS


def test_a_kernel_that_cannot_be_is_refused(configure: Configure) -> None:
    with pytest.raises(UsageError, match="PAGE_OFFSET"):
        budget.budget(configure(page_offset=0xB0000000), FLATMEM)


def test_constants() -> None:
    """struct mem_section without CONFIG_PAGE_EXTENSION, NR_PAGEBLOCK_BITS, 32 and 36 bits of physical address."""
    assert (budget.MEM_SECTION_SIZE, budget.PAGEBLOCK_BITS) == (8, 4)
    assert budget.BIGGEST_MEMORY == {False: 4 * GIB, True: 64 * GIB}
    assert budget.SMALLEST_MEMORY == 64 * MIB

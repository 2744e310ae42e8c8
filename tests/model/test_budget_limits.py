"""How much memory a kernel boots with at the most, for every kind of mem_map, and what stops it there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kvmtools.model import budget, machine
from kvmtools.model.budget import FLATMEM, KINDS, SPARSEMEM, VIRTUAL_LARGE, VIRTUAL_LARGE_LOWMEM, Kind, Limit
from kvmtools.records import Configuration, Image

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]


def test_limits(configure: Configure) -> None:
    """FACTS F's kernel boots with all that PAE reaches; one with struct pages of 64 bytes, as 2.4 had, does not."""
    assert budget.limit(configure(), FLATMEM) == Limit(64 * GIB, "")
    assert budget.limit(configure(pae=False), VIRTUAL_LARGE_LOWMEM) == Limit(4 * GIB, "")
    image = Image(0, {"_text": 0xC1000000, "_end": 0xC1800000})
    found = budget.limit(configure(page_struct_size=64, image=image), FLATMEM)
    assert found is not None
    # As test_budget_refusals.py has it for one piece: in whole blocks, less the hole of 1 GiB that QEMU's machine has.
    assert found.memory == (0x375FE - 0x1800) * 64 // 1024 * 4 * MIB - GIB
    assert found.reason == "mem_map takes 862.0 MiB, and the longest free piece of lowmem is 8 KiB short"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_limit_is_the_last_that_boots(configure: Configure, kind: Kind) -> None:
    configuration = configure(page_struct_size=128)
    found = budget.limit(configuration, kind)
    assert found is not None
    here, above = (
        budget.budget(replace(configuration, e820=machine.e820_of(found.memory + more)), kind)
        for more in (0, MIB)
    )
    assert here.boots
    assert above.refusal == found.reason != ""


def test_a_limit_can_be_found_more_exactly(configure: Configure) -> None:
    configuration = configure(page_struct_size=128)
    coarse, fine = budget.limit(configuration, FLATMEM), budget.limit(configuration, FLATMEM, step=4096)
    assert coarse is not None
    assert fine is not None
    assert coarse.memory % MIB == 0
    assert coarse.memory <= fine.memory < coarse.memory + MIB
    above = replace(configuration, e820=machine.e820_of(fine.memory + 4096))
    assert not budget.budget(above, FLATMEM).boots


def test_what_never_boots_has_no_limit(configure: Configure) -> None:
    """Struct pages of 4 KiB: the map is as large as all RAM; an image that ends above all lowmem."""
    assert budget.limit(configure(page_struct_size=4096), FLATMEM) is None
    image = Image(0, {"_text": 0xC1000000, "_end": 0xF75FF000})
    assert budget.limit(configure(image=image), VIRTUAL_LARGE) is None


def test_too_little_ram_is_no_limit(configure: Configure) -> None:
    """An image that ends at 65 MiB needs more than that; a section's map of 250 MiB needs more than 256 MiB of RAM."""
    image = Image(0, {"_text": 0xC1000000, "_end": 0xC4100000})
    assert budget.limit(configure(image=image), VIRTUAL_LARGE) == Limit(64 * GIB, "")
    found = budget.limit(configure(page_struct_size=2000), SPARSEMEM)
    # Three maps do not fit beside the first MiB and the image, but 23 MiB from the bottom up.
    assert found is not None
    assert found.memory == 1536 * MIB + 0x20000 // MIB * MIB
    assert found.reason == "mem_map takes 4 pieces of 250.0 MiB, and lowmem has room for 3"


def test_a_limit_below_twice_the_smallest(configure: Configure) -> None:
    """vmalloc=920M and its hole of 8 MiB leave lowmem 85.99 MiB, 62.87 of them above the image.

    That is room for 26 blocks of 1024 struct pages of 2400 bytes, 2.34 MiB; 64 MiB take 16, 37.5 of 40.75 that are
    there.  RAM ends 128 KiB before the memory does.
    """
    found = budget.limit(configure(command_line="vmalloc=920M", page_struct_size=2400), FLATMEM)
    reason = "mem_map takes 63.3 MiB, and the longest free piece of lowmem is 424 KiB short"
    assert found == Limit(26 * 4 * MIB, reason)


def test_a_limit_is_sought_above_the_largest_that_boots(configure: Configure) -> None:
    """Maps of 475 MiB for sections of 512: 2 GiB have room for their four, but 2304 MiB lack some for a fifth."""
    configuration = configure(page_offset=0x40000000, page_struct_size=3800)
    smaller = replace(configuration, e820=machine.e820_of(2304 * MIB))
    assert not budget.budget(smaller, SPARSEMEM).boots
    # Lowmem ends at 2933.99 MiB, and the image takes 23: six maps of 475, so six sections, 3 GiB.
    found = budget.limit(configuration, SPARSEMEM)
    assert found == Limit(3 * GIB, "mem_map takes 7 pieces of 475.0 MiB, and lowmem has room for 6")


def test_a_limit_may_be_that_of_the_vmalloc_area(configure: Configure) -> None:
    """vmalloc=0 reserves the hole below the area and nothing for it: all goes well until lowmem reaches up to there."""
    found = budget.limit(configure(command_line="vmalloc=0"), FLATMEM)
    assert found is not None
    assert "no vmalloc area" in found.reason
    # VMALLOC_END is ff5fe000, MAXMEM 3f5fe000 less 8 MiB; RAM of QEMU's machine ends 128 KiB before the end.
    assert found.memory == (0x3EDFE000 + 0x20000) // MIB * MIB

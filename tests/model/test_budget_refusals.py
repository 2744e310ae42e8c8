"""Machines whose mem_map has no room: which do not boot, and what the bill says of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from debate import SIXTY_FOUR, ram

from kvmtools.model import budget, machine
from kvmtools.model.budget import FLATMEM, SPARSEMEM, VIRTUAL, VIRTUAL_LARGE, VIRTUAL_LOWMEM
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, E820Entry, Image

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]


def test_a_flat_map_must_lie_in_one_piece(configure: Configure) -> None:
    """An image of 8 MiB from 16 MiB on leaves 0x35dfe pages above it: room for 13,791 blocks of 1024 struct pages of 64
    bytes, and 56 KiB more."""
    fits = (0x375FE - 0x1800) * 64 // 1024 * 4 * MIB
    image = Image(0, {"_text": 0xC1000000, "_end": 0xC1800000})

    def bill(end: int) -> budget.Budget:
        return budget.budget(
            configure(e820=(E820Entry(0, end, 1),), page_struct_size=64, image=image), FLATMEM
        )

    assert bill(fits).boots
    refused = bill(fits + 4096)
    assert not refused.boots
    # The next 4 MiB of RAM need 64 KiB more.
    assert fits == 13791 * 4 * MIB
    assert refused.refusal == "mem_map takes 862.0 MiB, and the longest free piece of lowmem is 8 KiB short"
    # Without an image to be seen, the one of the ordinary build is thought to lie there.
    assert not budget.budget(
        configure(e820=(E820Entry(0, fits + 4096, 1),), page_struct_size=64, image=Image(0, {})), FLATMEM
    ).boots
    assert budget.budget(
        configure(e820=(E820Entry(0, fits, 1),), page_struct_size=64, image=Image(0, {})), FLATMEM
    ).boots


def test_a_sparse_map_may_lie_in_pieces(configure: Configure) -> None:
    """Pieces of 8 MiB: one of 15 MiB below the image, 107 of 861.99 MiB above it."""
    image = Image(0, {"_text": 0xC1000000, "_end": 0xC1800000})

    def bill(sections: int) -> budget.Budget:
        e820 = (E820Entry(0, sections * 512 * MIB, 1),)
        return budget.budget(configure(e820=e820, page_struct_size=64, image=image), SPARSEMEM)

    assert bill(108).boots
    assert bill(109).refusal == "mem_map takes 109 pieces of 8.0 MiB, and lowmem has room for 108"


def test_one_piece_is_one(configure: Configure) -> None:
    """A section of 512 MiB takes 512 MiB with a struct page of 4096 bytes, all the RAM that there is."""
    e820 = (E820Entry(0, 512 * MIB, 1),)
    refusal = budget.budget(configure(e820=e820, page_struct_size=4096), SPARSEMEM).refusal
    assert refusal == "mem_map takes 1 piece of 512.0 MiB, and lowmem has room for 0"


def test_nothing_at_all_is_free(configure: Configure) -> None:
    """The image covers all of lowmem's RAM above the first MiB."""
    image = Image(0, {"_text": 0xC0100000, "_end": 0xC0800000})
    refused = budget.budget(configure(e820=(E820Entry(0, 8 * MIB, 1),), image=image), FLATMEM)
    assert refused.refusal == "mem_map takes 64 KiB, and the longest free piece of lowmem is 64 KiB short"


@pytest.mark.parametrize(("size", "shown"), [(510, "1020 KiB"), (512, "1.0 MiB")])
def test_sizes_are_shown_in_mib_from_one_on(configure: Configure, size: int, shown: str) -> None:
    """2048 struct pages of 510 bytes are 255 pages, of 512 bytes 256; the image leaves room for none of them."""
    image = Image(0, {"_text": 0xC0100000, "_end": 0xC0800000})
    configuration = configure(e820=(E820Entry(0, 8 * MIB, 1),), image=image, page_struct_size=size)
    refusal = budget.budget(configuration, FLATMEM).refusal
    assert refusal == f"mem_map takes {shown}, and the longest free piece of lowmem is {shown} short"


def test_page_0_of_2_4_is_memory_but_not_free() -> None:
    """copy_e820_map() of 2.4 keeps page 0; the first MiB is out of the question all the same.  The EBDA takes 0x9f."""
    prediction = Prediction(machine.configuration("2.4", memory=GIB))
    assert budget.budget(prediction.configuration, FLATMEM).memory == GIB - 0x20000 - 97 * 4096
    assert budget.unreserved(prediction, 0x2000).free[0].start >= 0x100


def test_a_window_may_leave_no_room_for_the_image(configure: Configure) -> None:
    """885.99 MiB less a window of 864: the image must end at 21.99 MiB or below."""
    e820 = ram((0, 3), (4, 54))
    fits, not_quite = (Image(0, {"_text": 0xC0100000, "_end": 0xC15FE000 + more}) for more in (0, 1))
    assert budget.budget(configure(e820=e820, page_struct_size=64, image=fits), VIRTUAL_LARGE).boots
    refused = budget.budget(configure(e820=e820, page_struct_size=64, image=not_quite), VIRTUAL_LARGE)
    assert refused.refusal == "a window of 864.0 MiB leaves 22.0 MiB of lowmem, and the image lies above"


def test_a_window_may_leave_nothing(configure: Configure) -> None:
    bill = budget.budget(configure(e820=SIXTY_FOUR, page_struct_size=64), VIRTUAL)
    assert (bill.lowmem, bill.window) == (0, GIB)
    assert bill.refusal == "a window of 1024.0 MiB leaves 0 KiB of lowmem, and the image lies above"
    assert bill.dma == 0


def test_what_backs_a_window_may_be_lacking(configure: Configure) -> None:
    """The bill of 64 GiB from lowmem: 373.99 MiB, less the first MiB and 7.125 MiB of image, for 504 MiB."""
    bill = budget.budget(configure(e820=SIXTY_FOUR), VIRTUAL_LOWMEM)
    assert bill.refusal == "beside a window of 512.0 MiB, lowmem lacks 139.1 MiB to back it"
    # Enough for the leaves, but not for their 424 page tables: there is room for one of them, or for 100.
    for room, lacking in ((1, "1.7 MiB"), (100, "1.3 MiB")):
        image = Image(0, {"_text": 0xC0100000, "_end": 0xC15FE000 - room * 4096})
        bill = budget.budget(configure(e820=ram((0, 3), (4, 54)), page_struct_size=64, image=image), VIRTUAL)
        assert bill.page_tables == 53 * 8 * 4096
        assert bill.refusal == f"beside a window of 864.0 MiB, lowmem lacks {lacking} to back it"

"""The bill of every kind of mem_map: the figures of the debate, worked by hand, and maps built in simulated memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Kind,
    Limit,
)
from kvmtools.model.flat_map import flat_map
from kvmtools.model.prediction import Prediction
from kvmtools.model.sparse_map import sparse_map
from kvmtools.model.virtual_map import virtual_map
from kvmtools.records import Configuration, E820Entry, Image, Range

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Configure = Callable[..., Configuration]

#: 0x375fe pfns: MAXMEM of the small PAE kernel, measured in a guest (FACTS A.1, "885MB LOWMEM").
MAXMEM = 0x375FE000


def ram(*ends: tuple[float, float]) -> tuple[E820Entry, ...]:
    """RAM between GiBs."""
    return tuple(E820Entry(int(a * GIB), int((b - a) * GIB), 1) for a, b in ends)


ONE = ram((0, 1))
THREE_AND_ONE = ram((0, 3), (4, 5))
SIXTEEN = ram((0, 3), (4, 17))
SIXTY_FOUR = ram((0, 3), (4, 64))
FAR_APART = ram((0, 2), (32, 34))

# FACTS F, computed there by formula: MiB left of zone NORMAL, rounded down, for FLATMEM, SPARSEMEM and a virtual map
# of 4 KiB leaves backed by highmem.  By hand: 1 GiB is 0x40000 pfns, of 32 bytes 8 MiB; 5 GiB end at 40 MiB; 17 GiB
# at 136; 64 GiB at 512; 34 GiB at 272.  SPARSEMEM pays 4 MiB (5 MiB of 40 bytes) for each 512 MiB that hold RAM: of
# those there are 2, 8, 32, 126 and 8.
FACTS_F = [
    (ONE, 32, (877, 877, 877)),
    (ONE, 40, (875, 875, 875)),
    (THREE_AND_ONE, 32, (845, 853, 845)),
    (THREE_AND_ONE, 40, (835, 845, 835)),
    (SIXTEEN, 32, (749, 757, 749)),
    (SIXTEEN, 40, (715, 725, 715)),
    (SIXTY_FOUR, 32, (373, 381, 373)),
    (SIXTY_FOUR, 40, (245, 255, 244)),
    (FAR_APART, 32, (613, 853, 613)),
    (FAR_APART, 40, (545, 845, 545)),
]


@pytest.mark.parametrize(("e820", "size", "left"), FACTS_F)
def test_the_table_of_the_debate(
    configure: Configure, e820: tuple[E820Entry, ...], size: int, left: tuple[int, ...]
) -> None:
    configuration = configure(e820=e820, page_struct_size=size)
    bills = [budget.budget(configuration, kind) for kind in (FLATMEM, SPARSEMEM, VIRTUAL)]
    assert tuple(bill.left // MIB for bill in bills) == left
    assert all(bill.boots for bill in bills)
    assert {bill.lowmem_without for bill in bills} == {MAXMEM}


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


# -- the two sides of the argument ----------------------------------------------------------------------------------


@st.composite
def machines(draw: st.DrawFn) -> tuple[E820Entry, ...]:
    """RAM from 0 to at least 1 GiB, then up to three islands in units of 64 MiB, below 64 GiB."""
    edges = draw(st.lists(st.integers(17, 1024), min_size=1, max_size=7, unique=True).map(sorted))
    edges = [0, *edges] if len(edges) % 2 else [0, 16, *edges]
    return tuple(
        E820Entry(a * 64 * MIB, (b - a) * 64 * MIB, 1) for a, b in zip(edges[::2], edges[1::2], strict=True)
    )


@given(e820=machines(), size=st.sampled_from((32, 36, 40)), pae=st.just(True))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_both_sides_are_right(
    configure: Configure, e820: tuple[E820Entry, ...], size: int, pae: bool
) -> None:
    configuration = configure(pae=pae, e820=e820, page_struct_size=size)
    flat, sparse, virtual, large, low, large_low = (budget.budget(configuration, kind) for kind in KINDS)
    holes = sum(b.start - (a.start + a.size) for a, b in pairwise(e820))
    # Lameter: its memory is that of the RAM alone, and none of it need be lowmem.
    assert abs(flat.backing - virtual.backing - holes // 4096 * size) <= 4096 * 2 * len(e820)
    assert virtual.from_lowmem == virtual.page_tables <= 4096 * (virtual.window // (2 * MIB))
    assert large.from_lowmem == 0
    assert virtual.from_lowmem < flat.from_lowmem
    # Whitcroft: but lowmem's virtual space goes all the same, holes included, so the loss is the same ...
    assert flat.lost <= large.lost <= virtual.lost <= flat.lost + 2 * MIB + virtual.page_tables
    assert virtual.lowmem == virtual.lowmem_without - virtual.window
    # ... or twice that if lowmem backs the window.
    assert low.lost == low.window + low.backing + low.page_tables
    assert large_low.lost == large_low.window + large_low.backing
    # Who is sparse in virtual space loses least, up to the last section's rest.
    assert sparse.lost <= flat.lost + (131072 * size + 4096) + KIB
    if holes >= 4 * GIB:
        assert sparse.lost < virtual.lost


# -- against the maps themselves, built in simulated memory ---------------------------------------------------------


@pytest.mark.parametrize("pae", [False, True])
@pytest.mark.parametrize("memory", [512 * MIB, 880 * MIB, 2 * GIB, 4 * GIB])
@pytest.mark.parametrize(
    "kind", [VIRTUAL, VIRTUAL_LARGE, VIRTUAL_LOWMEM, VIRTUAL_LARGE_LOWMEM], ids=lambda kind: kind.name
)
def test_a_virtual_map_that_is_built_takes_as_much(
    configure: Configure, pae: bool, memory: int, kind: Kind
) -> None:
    configuration = configure(pae=pae, memory=memory)
    bill = budget.budget(configuration, kind)
    leaf = (2 * MIB if pae else 4 * MIB) if kind.large else 4096
    built = virtual_map(
        configuration, leaf=leaf, backing="lowmem" if kind.lowmem_backed else "highmem"
    ).footprint
    assert (bill.backing, bill.window, bill.page_tables) == (
        built.struct_pages,
        built.window,
        built.page_tables,
    )
    assert (bill.from_lowmem, bill.from_highmem) == (built.lowmem, built.highmem)


@pytest.mark.parametrize("pae", [False, True])
@pytest.mark.parametrize("size", [32, 40])
def test_flat_and_sparse_maps_that_are_built_take_as_much(configure: Configure, pae: bool, size: int) -> None:
    configuration = configure(pae=pae, memory=2 * GIB, page_struct_size=size)
    flat = budget.budget(configuration, FLATMEM)
    assert flat.backing == flat_map(configuration).footprint.struct_pages
    sparse = budget.budget(configuration, SPARSEMEM)
    built = sparse_map(replace(configuration, sparsemem=True)).footprint
    assert sparse.backing == built.struct_pages


@given(
    ends=st.lists(st.integers(1, 4096), min_size=2, max_size=8, unique=True)
    .map(sorted)
    .filter(lambda e: len(e) % 2 == 0),
    size=st.sampled_from((28, 32, 40, 64, 5000)),
    large=st.booleans(),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_leaves_are_counted_as_page_by_page(
    configure: Configure, ends: list[int], size: int, large: bool
) -> None:
    """Beside a set of every leaf that holds a byte of every struct page: what the formulas never do."""
    islands = [Range(0x40000 + a, 0x40000 + b) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    e820 = (E820Entry(0, 32 * MIB, 1), *(E820Entry(r.start << 12, len(r) << 12, 1) for r in islands))
    configuration = configure(e820=e820, page_struct_size=size)
    leaf = 2 * MIB if large else 4096
    pfns = [pfn for r in (Range(1, 0xA0), Range(0x100, 0x2000), *islands) for pfn in range(r.start, r.end)]
    leaves = {
        byte // leaf
        for pfn in pfns
        for byte in (pfn * size, pfn * size + 4095, pfn * size + size - 1)
        if byte < (pfn + 1) * size
    }
    bill = budget.budget(configuration, VIRTUAL_LARGE if large else VIRTUAL)
    assert bill.backing == leaf * len(leaves)


# -- where it stops ---------------------------------------------------------------------------------------------------


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


def test_constants() -> None:
    """struct mem_section without CONFIG_PAGE_EXTENSION, NR_PAGEBLOCK_BITS, 32 and 36 bits of physical address."""
    assert (budget.MEM_SECTION_SIZE, budget.PAGEBLOCK_BITS) == (8, 4)
    assert budget.BIGGEST_MEMORY == {False: 4 * GIB, True: 64 * GIB}
    assert budget.SMALLEST_MEMORY == 64 * MIB


def test_limits(configure: Configure) -> None:
    """FACTS F's kernel boots with all that PAE reaches; one with struct pages of 64 bytes, as 2.4 had, does not."""
    assert budget.limit(configure(), FLATMEM) == Limit(64 * GIB, "")
    assert budget.limit(configure(pae=False), VIRTUAL_LARGE_LOWMEM) == Limit(4 * GIB, "")
    image = Image(0, {"_text": 0xC1000000, "_end": 0xC1800000})
    found = budget.limit(configure(page_struct_size=64, image=image), FLATMEM)
    assert found is not None
    # As in the test of one piece: in whole blocks, less the hole of 1 GiB that QEMU's machine has.
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


def test_a_kernel_that_cannot_be_is_refused(configure: Configure) -> None:
    with pytest.raises(UsageError, match="PAGE_OFFSET"):
        budget.budget(configure(page_offset=0xB0000000), FLATMEM)


def test_2_4_has_no_sparsemem() -> None:
    """sizeof(struct page) was about 64 bytes, and MAXMEM 896 MiB: 64 GiB could not be had."""
    old = machine.configuration("2.4", memory=64 * GIB)
    assert not budget.has_sparsemem(old)
    assert budget.kinds(old) == tuple(kind for kind in KINDS if kind is not SPARSEMEM)
    assert not budget.budget(old, FLATMEM).boots
    for era in eras.NAMES[1:]:
        assert budget.has_sparsemem(machine.configuration(era))
        assert budget.kinds(machine.configuration(era)) == KINDS


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


def test_one_piece_is_one(configure: Configure) -> None:
    """A section of 512 MiB takes 512 MiB with a struct page of 4096 bytes, all the RAM that there is."""
    e820 = (E820Entry(0, 512 * MIB, 1),)
    refusal = budget.budget(configure(e820=e820, page_struct_size=4096), SPARSEMEM).refusal
    assert refusal == "mem_map takes 1 piece of 512.0 MiB, and lowmem has room for 0"

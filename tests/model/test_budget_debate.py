"""The debate of 2006 on the virtual mem_map: its table, worked by hand, and what either side said, on any machine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from debate import FAR_APART, MAXMEM, ONE, SIXTEEN, SIXTY_FOUR, THREE_AND_ONE
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmtools.model import budget
from kvmtools.model.budget import FLATMEM, KINDS, SPARSEMEM, VIRTUAL
from kvmtools.records import Configuration, E820Entry

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Configure = Callable[..., Configuration]

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

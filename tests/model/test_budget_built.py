"""The bill of every kind of mem_map beside maps built in simulated memory, and beside counting leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmtools.model import budget
from kvmtools.model.budget import (
    FLATMEM,
    SPARSEMEM,
    VIRTUAL,
    VIRTUAL_LARGE,
    VIRTUAL_LARGE_LOWMEM,
    VIRTUAL_LOWMEM,
    Kind,
)
from kvmtools.model.memmaps.flat_map import flat_map
from kvmtools.model.memmaps.sparse_map import sparse_map
from kvmtools.model.memmaps.virtual_map import virtual_map
from kvmtools.records import Configuration, E820Entry, Range

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]


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

"""``mem_map`` of two recorded guests: every column, and what the kernel of each knows about itself."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kvmtools.errors import MemoryFault, UsageError
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.pages.memmap import MemMap, needs, observe_memmap, page_at, page_pfn
from kvmtools.observe.pages.page_flags import Field
from kvmtools.observe.pages.pieces import memmap_pieces
from kvmtools.observe.symbols.vmlinux import Vmlinux

Patch = Callable[[int, bytes], None]


@pytest.fixture
def memmap(recorded: Kernel) -> MemMap:
    return told(observe_memmap(recorded))


def told(memmap: MemMap) -> MemMap:
    """FLATMEM of four zones: two bits at the top of the flags are the zone's (FACTS C.4)."""
    fields = {"zone": Field(30, 2), "node": Field(30, 0), "section": Field(32, 0)}
    return replace(memmap, layout=replace(memmap.layout, **fields))


def test_who_was_not_told_does_not_guess(recorded: Kernel) -> None:
    memmap = observe_memmap(recorded)
    assert (memmap.page(0xA0)["zone"], memmap.page(0xA0)["section"], memmap.section) == ("?", None, None)
    with pytest.raises(UsageError, match="only the model says"):
        _ = memmap.zone


def raw_page(kernel: Kernel, memmap: MemMap, pfn: int) -> tuple[int, ...]:
    """The words of one ``struct page``, read by themselves."""
    return struct.unpack("<8I", kernel.read(memmap.base + pfn * 32, 32))


def test_every_column_is_the_word_of_its_page(recorded: Kernel, memmap: MemMap) -> None:
    """The 32-byte layout of 6.1 (FACTS C.3), written out here."""
    for pfn in (0, 1, 0x9F, 0x100, memmap.length // 2, memmap.length - 1):
        flags, following, previous, mapping, index, private, mapcount, refcount = raw_page(
            recorded, memmap, pfn
        )
        assert memmap.flags[pfn] == flags
        assert (memmap.lru_next[pfn], memmap.lru_prev[pfn]) == (following, previous)
        assert (memmap.mapping[pfn], memmap.index[pfn]) == (mapping, index)
        assert memmap.private[pfn] == private
        assert int(memmap.mapcount[pfn]) % (1 << 32) == memmap.page_type[pfn] == mapcount
        assert int(memmap.refcount[pfn]) % (1 << 32) == refcount


def test_it_is_as_long_as_the_kernel_says(recorded: Kernel, memmap: MemMap) -> None:
    assert memmap.length == memmap.max_mapnr == recorded.u32(recorded.address("max_mapnr"))
    assert memmap.section is None


def test_zones_come_in_order_and_none_is_missing(memmap: MemMap) -> None:
    assert memmap.zone_names == ("DMA", "NORMAL", "HIGHMEM", "MOVABLE")
    assert (memmap.zone[:0x1000] == 0).all()
    assert (np.diff(memmap.zone.astype(int)) >= 0).all()
    assert set(memmap.zone.tolist()) == {0, 1, 2}


def test_flags_have_the_names_of_this_kernel(memmap: MemMap) -> None:
    assert memmap.flag_names["PG_locked"] == 0
    assert memmap.flag_names["PG_reserved"] == 12
    assert "PG_swapcache" not in memmap.flag_names
    assert memmap.layout.bit("PG_swapcache") == 1 << memmap.flag_names["PG_owner_priv_1"]
    assert memmap.layout.bit("PG_of_another_kernel") == 0
    assert memmap.layout.bit("PG_of_another_kernel", "PG_slab") == 1 << 9


def test_the_bios_area_is_reserved_and_referenced_once(memmap: MemMap) -> None:
    hole = slice(0xA0, 0x100)
    assert memmap.has_flag("PG_reserved")[hole].all()
    assert (memmap.refcount[hole] == 1).all()
    assert (memmap.mapcount[hole] == -1).all()


def test_free_blocks_are_aligned_and_cover_their_pages(memmap: MemMap) -> None:
    heads = np.flatnonzero(memmap.buddy)
    assert len(heads) > 10
    orders = memmap.buddy_order[heads].astype(np.int64)
    assert orders.max() == 10
    assert (heads % (1 << orders) == 0).all()
    assert memmap.in_buddy_block.sum() == (1 << orders).sum()
    assert (memmap.refcount[memmap.in_buddy_block] == 0).all()
    assert not memmap.buddy_order[~memmap.buddy].any()


def test_tails_know_their_heads(memmap: MemMap) -> None:
    tails = np.flatnonzero(memmap.tail)
    assert len(tails) > 10
    assert memmap.has_flag("PG_head")[memmap.head[tails]].all()
    assert not memmap.tail[memmap.head[tails]].any()
    alone = np.flatnonzero(~memmap.tail)
    assert (memmap.head[alone] == alone).all()


def test_pages_and_pfns_are_two_names_of_one_thing(memmap: MemMap) -> None:
    assert memmap.pfn_to_page(5) == memmap.base + 5 * memmap.page_size
    addresses = [memmap.pfn_to_page(5), memmap.pfn_to_page(5) + 4, memmap.base - memmap.page_size, 0]
    assert memmap.page_to_pfn(addresses).tolist() == [5, -1, -1, -1]
    assert memmap.page_to_pfn(memmap.pfn_to_page(0) + memmap.length * memmap.page_size) == -1
    with pytest.raises(IndexError, match=f"{memmap.length:#x} has no struct page"):
        memmap.pfn_to_page(memmap.length)


def test_one_page_in_full(recorded: Kernel, memmap: MemMap) -> None:
    head = int(np.flatnonzero(memmap.buddy)[0])
    page = memmap.page(head)
    assert page["pfn"] == head
    assert page["type_names"] == ("buddy",)
    assert page["mapcount"] is None
    assert page["buddy_order"] == memmap.private[head]
    hole = memmap.page(0xA0)
    assert hole["flag_names"] == ("PG_reserved",)
    assert (hole["zone"], hole["refcount"], hole["mapcount"], hole["buddy_order"]) == ("DMA", 1, 0, None)
    tail = int(np.flatnonzero(memmap.tail)[0])
    assert memmap.page(tail)["compound_head"] == memmap.head[tail]
    for pfn in (head, 0xA0, tail):
        assert page_at(recorded, pfn, memmap.layout) == memmap.page(pfn)
        assert page_pfn(recorded, memmap.pfn_to_page(pfn)) == pfn


def test_what_is_read_is_what_is_needed(recorded: Kernel, memmap: MemMap) -> None:
    array, behind = needs(recorded)
    assert array.start == memmap.physical
    assert len(array) == memmap.length * memmap.page_size
    assert array.start + recorded.page_offset == memmap.base
    assert (behind.start, len(behind)) == (array.end, 0)


def test_a_limit_beyond_the_node_is_told_and_not_followed(recorded: Kernel, patch: Patch) -> None:
    (whole,) = memmap_pieces(recorded)
    node = recorded.address("contig_page_data")
    start, spanned = (
        recorded.member(node, "struct pglist_data", name) for name in ("node_start_pfn", "node_spanned_pages")
    )
    assert (start, whole.start_pfn, whole.pages) == (1, 0, start + spanned)
    patch(recorded.address("max_mapnr"), struct.pack("<I", whole.pages + 5))
    memmap = observe_memmap(recorded)
    assert memmap.max_mapnr == whole.pages + 5
    assert memmap.length == whole.pages
    # Somebody knows more.
    assert observe_memmap(recorded, whole.pages + 3).length == whole.pages + 3
    assert np.array_equal(observe_memmap(recorded, whole.pages + 3).words[:, : whole.pages], memmap.words)


def test_a_limit_before_the_end_of_the_node_is_the_end(recorded: Kernel, patch: Patch) -> None:
    patch(recorded.address("max_mapnr"), struct.pack("<I", 0x1234))
    assert observe_memmap(recorded).length == 0x1234


def test_a_mem_map_outside_of_ram_is_a_fault(recorded: Kernel, patch: Patch) -> None:
    patch(recorded.address("mem_map"), struct.pack("<I", recorded.lowmem_end - 4096))
    with pytest.raises(MemoryFault):
        observe_memmap(recorded)


def test_sections_become_the_same_columns(recorded: Kernel, patch: Patch) -> None:
    """SPARSEMEM (FACTS C.2), with small sections: the second is present, its array a part of the guest's mem_map."""
    flat = observe_memmap(recorded)
    # The table takes the place of pages behind that part.
    table, section = flat.pfn_to_page(20_000) - recorded.slide, 1
    pages = 1 << 14
    answers = {
        "symbol mem_section": table,
        "sizeof typeof(mem_section)": 8 * ((1 << (24 if recorded.architecture is I386_PAE else 20)) // pages),
        "sizeof struct mem_section": 8,
        "offset struct mem_section section_mem_map": 0,
    }
    document = recorded.vmlinux.to_json()
    vmlinux = Vmlinux.from_json({**document, "answers": {**document["answers"], **answers}})
    count = answers["sizeof typeof(mem_section)"] // 8
    start = section * pages
    patch(table + recorded.slide, bytes(8 * count))
    biased = (flat.pfn_to_page(0x100) - start * flat.page_size) % (1 << 32)
    patch(table + recorded.slide + 8 * section, struct.pack("<I", biased | 0b1011))
    sparse = observe_memmap(replace(recorded, vmlinux=vmlinux))
    assert (sparse.max_mapnr, sparse.length) == (None, 2 * pages)
    assert not sparse.words[:, :start].any()
    assert np.array_equal(sparse.words[:, start:], flat.words[:, 0x100 : 0x100 + pages])
    assert sparse.pfn_to_page(start) == flat.pfn_to_page(0x100)
    assert sparse.page_to_pfn([flat.pfn_to_page(0x101), flat.pfn_to_page(0)]).tolist() == [start + 1, -1]
    assert sparse.valid.tolist() == [False] * pages + [True] * pages
    assert flat.valid.all()
    with pytest.raises(IndexError):
        sparse.pfn_to_page(start - 1)


def test_the_node_of_a_section_where_flags_have_no_room(recorded: Kernel, patch: Patch) -> None:
    """``section_to_node_table``, which exists where ``page->flags`` have no bits left for the node's number."""
    flat = observe_memmap(recorded)
    table, nodes, pages = flat.pfn_to_page(20_000) - recorded.slide, flat.pfn_to_page(20_100), 1 << 14
    count = (1 << recorded.architecture.physical_bits - 12) // pages
    answers = {
        "symbol mem_section": table,
        "sizeof typeof(mem_section)": 8 * count,
        "sizeof struct mem_section": 8,
        "offset struct mem_section section_mem_map": 0,
        "symbol contig_page_data": None,
        "symbol node_data": 0xC100_0000,
        "array_length typeof(node_data)": 4,
        "symbol section_to_node_table": nodes - recorded.slide,
        "sizeof typeof(section_to_node_table)": count,
    }
    document = recorded.vmlinux.to_json()
    vmlinux = Vmlinux.from_json({**document, "answers": {**document["answers"], **answers}})
    numa = replace(recorded, vmlinux=vmlinux)
    patch(table + recorded.slide, bytes(8 * count))
    for section, node in ((0, 1), (2, 3)):
        biased = (flat.pfn_to_page(0x100) - section * pages * flat.page_size) % (1 << 32)
        patch(table + recorded.slide + 8 * section, struct.pack("<I", biased | 0b1011))
        patch(nodes + section, bytes([node]))
    memmap = observe_memmap(numa)
    assert memmap.node is not None
    assert memmap.node[memmap.valid].tolist() == [1] * pages + [3] * pages
    assert [memmap.page(pfn)["node"] for pfn in (0, pages - 1, 2 * pages, 3 * pages - 1)] == [1, 1, 3, 3]
    assert page_at(numa, 2 * pages)["node"] == 3
    # Of one node there is nothing to say.
    assert flat.node is None
    assert flat.page(0)["node"] is None

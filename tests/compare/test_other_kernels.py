"""Rules that both recorded guests skip, and the one that only a broken walker breaks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from recorded_guest import RecordedGuest, exchanged

from kvmtools.compare.case import Case
from kvmtools.compare.engine import check
from kvmtools.compare.rules.layout import matches_model
from kvmtools.compare.rules.memmap import holes_reserved, node_of_page, section_of_page
from kvmtools.compare.rules.page_address_legacy import page_virtual, pool_complete
from kvmtools.errors import MemoryFault
from kvmtools.model.pages.memmap import HoleFields, ZoneRange
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.pages.page_flags import Field
from kvmtools.observe.symbols.vmlinux import Vmlinux

SLOTS, BASE, NODE = 4, 0xFF80_0000, 8
"""A pkmap of four slots; the list node lies 8 bytes into a ``struct page_address_map``."""
POOL, ENTRIES = 0xC100_0000, (0xC200_0000, 0xC200_0010, 0xC200_0020, 0xC200_0030)


def pool_of(pooled: tuple[int, ...], hashed: tuple[int, ...], *, cut: bool = False) -> Case:
    """A 2.6 kernel's ``page_address_pool`` and the addresses of its hash entries."""
    nodes = [POOL, *(entry + NODE for entry in pooled)]
    words = dict(zip(nodes, [*nodes[1:], POOL], strict=True))

    def word(address: int) -> int:
        if cut or address not in words:
            raise MemoryFault(address, "it was not captured", space="virtual")
        return words[address]

    stub = SimpleNamespace(
        address=lambda _symbol: POOL,
        vmlinux=SimpleNamespace(offset=lambda _type, _member: NODE),
        pkmap=SimpleNamespace(counts=np.zeros(SLOTS, np.int32)),
        hash_entries=[SimpleNamespace(address=address) for address in hashed],
        word=word,
    )
    return cast(Case, stub)


def test_pool_and_hash_hold_every_entry_once() -> None:
    seen = pool_complete(pool_of(ENTRIES[:3], ENTRIES[3:]))
    assert (seen.examined, seen.total) == (SLOTS, 0)


def test_an_entry_lost_between_pool_and_hash() -> None:
    (finding,) = pool_complete(pool_of(ENTRIES[:2], ENTRIES[3:])).findings
    assert (finding.subject, finding.observed) == ("page_address_pool", "2 in the pool and 1 in the hash")


def test_an_entry_in_pool_and_hash() -> None:
    findings = pool_complete(pool_of(ENTRIES, ENTRIES[3:])).findings
    assert [finding.observed for finding in findings] == ["in both", "4 in the pool and 1 in the hash"]


def test_a_pool_that_was_not_captured_is_not_judged() -> None:
    assert "could not be followed" in pool_complete(pool_of(ENTRIES, (), cut=True)).skipped


def page_virtuals(*values: int) -> Case:
    """A 2.4 kernel of two lowmem and two highmem pages; slot 1 maps pfn 3."""
    stub = SimpleNamespace(
        memmap=SimpleNamespace(length=4, word_at=lambda _offset: np.array(values, np.uint32)),
        vmlinux=SimpleNamespace(offset=lambda _type, _member: 4),
        predicted=SimpleNamespace(max_low_pfn=2),
        page_offset=0xC000_0000,
        pkmap=SimpleNamespace(counts=np.array([0, 2, 0, 0], np.int32)),
        pkmap_pfns=np.array([0, 3, 0, 0]),
        area=SimpleNamespace(address_of=lambda slot: BASE + slot * 4096),
    )
    return cast(Case, stub)


def test_page_virtual_of_lowmem_of_a_slot_and_of_nobody() -> None:
    assert page_virtual(page_virtuals(0xC000_0000, 0xC000_1000, 0, BASE + 4096)).total == 0


def test_page_virtual_that_outlived_its_slot() -> None:
    (finding,) = page_virtual(page_virtuals(0xC000_0000, 0xC000_1000, BASE + 8192, BASE + 4096)).findings
    assert finding.subject == "pfn 0x2"


def with_flags_field(guest: RecordedGuest, **fields: Field) -> Case:
    """The guest, as if its flags held one more field; the bits there are zero in every page."""
    case = Case(guest.observe())
    layout = replace(case.memmap.layout, **fields)
    vars(case)["memmap"] = replace(case.memmap, layout=layout)
    return case


def test_node_numbers(recorded: RecordedGuest) -> None:
    case = with_flags_field(recorded, node=Field(27, 2))
    assert node_of_page(case).total == 0
    case = with_flags_field(recorded, node=Field(27, 2))
    case.memmap.flags[77] |= 1 << 28
    (finding,) = node_of_page(case).findings
    assert (finding.subject, finding.observed) == ("pfn 0x4d", "node 2")


def test_section_numbers(recorded: RecordedGuest) -> None:
    """All pages say section 0: true of the first section's pages only."""
    case = with_flags_field(recorded, section=Field(27, 2))
    per_section = (1 << 29 if recorded.kernel.architecture is I386_PAE else 1 << 26) >> 12
    others = max(0, case.memmap.length - per_section)
    assert section_of_page(case).total == others
    case = with_flags_field(recorded, section=Field(27, 2))
    case.memmap.flags[77] |= 1 << 27
    seen = section_of_page(case)
    assert (seen.total, seen.findings[0].subject) == (others + 1, "pfn 0x4d")


def zero_holes(recorded: RecordedGuest) -> Case:
    """The guest, as if its kernel left holes zero, and its mem_map with one of them so."""
    case = Case(recorded.observe())
    hole = ZoneRange(0x9F, 0x100, 0, False)
    words = case.memmap.words.copy()
    words[:, hole.start : hole.end] = 0
    zeros = HoleFields(refcount=0, mapcount=0, flags=frozenset())
    predicted = replace(case.prediction.memmap, hole=zeros, zones=(hole,))
    stub = SimpleNamespace(
        memmap=replace(case.memmap, words=words), prediction=SimpleNamespace(memmap=predicted)
    )
    return cast(Case, stub)


def test_holes_that_nobody_initialised(recorded: RecordedGuest) -> None:
    """5.10 with FLATMEM: zeros, and PG_reserved only where memblock was told so."""
    case = zero_holes(recorded)
    memmap = case.memmap
    assert (holes_reserved(case).examined, holes_reserved(case).total) == (0x61, 0)
    memmap.words[memmap.offsets["flags"] // 4, 0xA0] = memmap.layout.bit("PG_reserved")
    assert holes_reserved(case).total == 0
    memmap.words[memmap.offsets["_refcount"] // 4, 0xA1] = 1
    memmap.words[memmap.offsets["_mapcount"] // 4, 0xA2] = 0xFFFF_FFFF
    assert [(finding.symbol, finding.expected) for finding in holes_reserved(case).findings] == [
        ("mem_map[0xa1]._refcount", "PG_reserved or not, _refcount 0, _mapcount 0"),
        ("mem_map[0xa2]._mapcount", "PG_reserved or not, _refcount 0, _mapcount 0"),
    ]


def test_walkers_that_disagree(recorded: RecordedGuest) -> None:
    observed = recorded.observe()
    row = len(observed.walk) // 2
    writable = observed.walk.writable.copy()
    writable[row] ^= True
    broken = exchanged(observed, walk=replace(observed.walk, writable=writable))
    result = check(broken, only=("pagetable.walkers-agree",))
    assert [finding.virtual for finding in result.findings] == [int(observed.walk.virtual[row])]


def test_a_walker_that_misses_a_leaf(recorded: RecordedGuest) -> None:
    observed = recorded.observe()
    columns: dict[str, Any] = {
        name: getattr(observed.walk, name)[:-1]
        for name in (
            "virtual", "physical", "size", "entry", "level", "table", "index", "writable", "user", "executable"
        )
    }  # fmt: skip
    result = check(
        exchanged(observed, walk=replace(observed.walk, **columns)), only=("pagetable.walkers-agree",)
    )
    assert [finding.observed for finding in result.findings] == ["no leaf"]


def test_where_no_marker_says_it_page_offset_is_not_compared_with_itself(recorded: RecordedGuest) -> None:
    observed = recorded.observe()
    vmlinux = observed.kernel.vmlinux.to_json()
    unmarked = Vmlinux.from_json(
        {**vmlinux, "answers": {**vmlinux["answers"], "symbol address_markers": None}}
    )
    told = exchanged(observed, kernel=replace(observed.kernel, vmlinux=unmarked))
    before, after = (matches_model(Case(each)) for each in (observed, told))
    assert (before.examined, before.total) == (after.examined + 1, 0)

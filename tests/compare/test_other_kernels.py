"""Rules that both recorded guests skip, and the one that only a broken walker breaks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from recorded_guest import RecordedGuest, exchanged

from kvmtools.compare.case import Case
from kvmtools.compare.engine import check
from kvmtools.compare.rules.layout import matches_model
from kvmtools.compare.rules.memmap import holes_reserved, node_of_page, section_of_page
from kvmtools.model.pages.memmap import HoleFields, ZoneRange
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.pages.page_flags import Field
from kvmtools.observe.symbols.vmlinux import Vmlinux


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

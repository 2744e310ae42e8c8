"""What is told of single pages, and of compound pages written into the mem_map of a recorded guest by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.pages.memmap import MemMap, observe_memmap
from kvmtools.observe.pages.stable_page_flags import KPF, kpagecount, kpageflags
from kvmtools.observe.symbols.vmlinux import Vmlinux

Patch = Callable[[int, bytes], None]

# Flag bits of 6.1 (FACTS C.4).
LRU, WORKINGSET, SLAB, RESERVED, HEAD, SWAPBACKED = 1 << 4, 1 << 6, 1 << 9, 1 << 12, 1 << 16, 1 << 19
ANON, KSM = 1, 3
PAGES = 4


def names(flags: np.uint64) -> set[str]:
    return {name for name, bit in KPF.items() if int(flags) >> bit & 1}


class Block:
    """A free block of the guest, made into a compound page of four pages."""

    def __init__(self, kernel: Kernel, patch: Patch) -> None:
        self.kernel, self.patch = kernel, patch
        memmap = observe_memmap(kernel)
        self.head = int(np.flatnonzero(memmap.buddy & (memmap.buddy_order == 10))[0])
        self.base = memmap.pfn_to_page(self.head)
        self.zone = int(memmap.flags[self.head]) & 0xC000_0000

    def page(
        self, number: int, flags: int, link: int, mapping: int = 0, mapcount: int = -1, refcount: int = 0
    ) -> None:
        """The 32 bytes of 6.1: flags, lru, mapping, index, private, _mapcount, _refcount (FACTS C.3)."""
        words = struct.pack("<IIIIIIiI", self.zone | flags, link, 0, mapping, 0, 0, mapcount, refcount)
        self.patch(self.base + number * 32, words)

    def compound(self, flags: int, mapping: int = 0, mapcounts: tuple[int, ...] = (-1,) * PAGES) -> None:
        self.page(0, flags | HEAD, 0xC000_0000, mapping, mapcounts[0], 1)
        for number in range(1, PAGES):
            self.page(number, 0, self.base + 1, 0, mapcounts[number])
        self.entire_mapcount(-1)

    def entire_mapcount(self, value: int) -> None:
        offset = self.kernel.vmlinux.offset("struct page", "compound_mapcount")
        self.patch(self.base + 32 + offset, struct.pack("<i", value))

    def flags(self) -> list[set[str]]:
        return [names(one) for one in kpageflags(self._memmap(), self.kernel)[self.head : self.head + PAGES]]

    def counts(self) -> list[int]:
        return kpagecount(self._memmap(), self.kernel)[self.head : self.head + PAGES].tolist()

    def _memmap(self) -> MemMap:
        return observe_memmap(self.kernel)


@pytest.fixture
def block(recorded: Kernel, patch: Patch) -> Block:
    return Block(recorded, patch)


def test_free_blocks_are_buddy_to_the_last_page(block: Block) -> None:
    assert block.flags() == [{"BUDDY"}] * PAGES
    assert block.counts() == [0] * PAGES


def test_holes_are_reserved(recorded: Kernel) -> None:
    memmap = observe_memmap(recorded)
    assert {frozenset(names(one)) for one in kpageflags(memmap, recorded)[0xA0:0x100]} == {
        frozenset({"RESERVED"})
    }


def test_the_zero_page_is_one_page(recorded: Kernel) -> None:
    memmap = observe_memmap(recorded)
    found = np.flatnonzero(kpageflags(memmap, recorded) & np.uint64(1 << KPF["ZERO_PAGE"]))
    assert found.tolist() == [recorded.variable("zero_pfn")]


def test_a_single_anonymous_page(block: Block) -> None:
    for number in range(PAGES):
        block.page(number, 0, 0xC000_0000, refcount=1)
    block.page(1, LRU | SWAPBACKED, 0xC000_0000, 0xC123_4560 | ANON, mapcount=2, refcount=3)
    assert block.flags() == [set(), {"LRU", "SWAPBACKED", "ANON", "MMAP"}, set(), set()]
    assert block.counts() == [0, 3, 0, 0]


def test_a_page_that_ksm_merged(block: Block) -> None:
    for number in range(PAGES):
        block.page(number, 0, 0xC000_0000, refcount=1)
    block.page(1, LRU | SWAPBACKED, 0xC000_0000, 0xC123_4560 | KSM, mapcount=0, refcount=1)
    assert block.flags()[1] == {"LRU", "SWAPBACKED", "ANON", "KSM", "MMAP"}


def test_slab_reaches_the_tails(block: Block) -> None:
    block.compound(SLAB)
    assert block.flags() == [{"SLAB", "COMPOUND_HEAD"}] + [{"SLAB", "COMPOUND_TAIL"}] * 3
    assert block.counts() == [0] * PAGES


def test_a_slabs_counters_are_no_mapcount(block: Block) -> None:
    block.compound(SLAB, mapcounts=(5, -1, -1, -1))
    assert "MMAP" not in block.flags()[0]
    assert block.counts() == [0] * PAGES


def test_a_huge_page_mapped_as_a_whole(block: Block) -> None:
    block.compound(LRU | SWAPBACKED, 0xC123_4560 | ANON)
    block.entire_mapcount(0)
    thp = (
        {"THP"} if block.kernel.architecture is I386_PAE else set()
    )  # nopae is built without TRANSPARENT_HUGEPAGE
    head = {"LRU", "SWAPBACKED", "ANON", "MMAP", "COMPOUND_HEAD"} | thp
    assert block.flags() == [head] + [{"ANON", "MMAP", "COMPOUND_TAIL"} | thp] * 3
    assert block.counts() == [1] * PAGES


def test_a_huge_page_of_which_one_page_is_mapped(block: Block) -> None:
    block.compound(LRU | SWAPBACKED, 0xC123_4560 | ANON, (-1, -1, 1, -1))
    assert all("MMAP" in flags for flags in block.flags())
    assert block.counts() == [0, 0, 2, 0]


def test_a_huge_page_mapped_both_ways_counts_once(recorded: Kernel, block: Block) -> None:
    """PG_double_map in the first tail page: every page's own count includes the whole's (6.1 __page_mapcount)."""
    block.compound(LRU | SWAPBACKED, 0xC123_4560 | ANON, (0, 0, 1, 0))
    block.entire_mapcount(0)
    assert block.counts() == [2, 2, 3, 2]
    block.patch(block.base + 32, struct.pack("<I", block.zone | WORKINGSET))
    doubled = [1, 1, 2, 1] if recorded.architecture is I386_PAE else [2, 2, 3, 2]
    assert block.counts() == doubled


def test_a_files_huge_page_counts_page_by_page(block: Block) -> None:
    """Its pages' own counts include the maps of the whole already (6.1 __page_mapcount)."""
    block.compound(LRU, 0xC123_4560, (0, 0, 1, 0))
    block.entire_mapcount(0)
    assert block.counts() == [1, 1, 2, 1]


def known_as(recorded_guest: Any, patch: Patch, **answers: Any) -> Block:
    """A block of the same guest, of whose kernel other things are known; blanks in their names are ``__``."""
    document = recorded_guest.told.facts
    told = {question.replace("__", " "): answer for question, answer in answers.items()}
    vmlinux = Vmlinux.from_json({**document, "answers": {**document["answers"], **told}})
    return Block(replace(recorded_guest.kernel(), vmlinux=vmlinux), patch)


def test_a_later_kernel_tells_of_the_whole_what_it_tells_of_a_page(recorded_guest: Any, patch: Patch) -> None:
    """7.2 fs/proc/page.c: flags are those of the folio, and what a tail page has in their place means nothing."""
    block = known_as(recorded_guest, patch, sizeof__struct__page_snapshot=112)
    block.compound(LRU)
    block.patch(block.base + 32, struct.pack("<I", block.zone | SWAPBACKED))
    assert [flags - {"THP"} for flags in block.flags()] == [
        {"LRU", "COMPOUND_HEAD"},
        *[{"LRU", "COMPOUND_TAIL"}] * 3,
    ]


def of_folios(recorded_guest: Any, patch: Patch) -> Block:
    """6.12's enumeration of flags, as far as it matters: no PG_slab, and the second page says who may be a huge one."""
    flags = recorded_guest.told.facts["answers"]["enumerators pageflags"]
    later = {name: bit for name, bit in flags.items() if name != "PG_slab"} | {"PG_large_rmappable": 6}
    assert flags["PG_workingset"] == 6
    return known_as(recorded_guest, patch, enumerators__pageflags=later)


@pytest.mark.parametrize(("second", "told"), [(0, set[str]()), (WORKINGSET, {"THP"})])
def test_of_folios_the_flags_are_those_of_the_whole(
    recorded_guest: Any, patch: Patch, second: int, told: set[str]
) -> None:
    """6.12 fs/proc/page.c: folio->flags, and THP by folio_test_large_rmappable; no list makes a page huge."""
    block = of_folios(recorded_guest, patch)
    block.compound(LRU)
    block.patch(block.base + 32, struct.pack("<I", block.zone | SWAPBACKED | second))
    told = told if block.kernel.architecture is I386_PAE else set()
    assert block.flags() == [{"LRU", "COMPOUND_HEAD"} | told] + [{"LRU", "COMPOUND_TAIL"} | told] * 3


@pytest.mark.parametrize("mapping", [ANON, KSM])
def test_of_folios_every_anonymous_page_passes_for_merged(
    recorded_guest: Any, patch: Patch, mapping: int
) -> None:
    """6.12: "mapping & PAGE_MAPPING_KSM", a mask of two bits of which one is every anonymous page's."""
    block = of_folios(recorded_guest, patch)
    for number in range(PAGES):
        block.page(number, 0, 0xC000_0000, refcount=1)
    block.page(1, LRU | SWAPBACKED, 0xC000_0000, 0xC123_4560 | mapping, mapcount=0, refcount=1)
    assert block.flags()[1] == {"LRU", "SWAPBACKED", "ANON", "KSM", "MMAP"}


def test_the_count_of_the_whole_may_be_in_the_second_tail_page(recorded_guest: Any, patch: Patch) -> None:
    """7.2 include/linux/mm_types.h, struct folio without CONFIG_64BIT: byte 16 of the page at index 2."""
    members = {"offset__struct__page__compound_mapcount": None, "offset__struct__folio___entire_mapcount": 80}
    block = known_as(recorded_guest, patch, **members)
    block.page(0, LRU | HEAD, 0xC000_0000, 0xC123_4560 | ANON, -1, 1)
    for number in range(1, PAGES):
        block.page(number, 0, block.base + 1)
    block.patch(block.base + 32 + 16, struct.pack("<i", 6))
    block.patch(block.base + 64 + 16, struct.pack("<i", 2))
    assert block.counts() == [3] * PAGES


@pytest.mark.parametrize("pages", [2, 3])
def test_a_compound_page_without_a_second_tail_has_no_such_count(
    recorded_guest: Any, patch: Patch, pages: int
) -> None:
    members = {"offset__struct__page__compound_mapcount": None, "offset__struct__folio___entire_mapcount": 80}
    block = known_as(recorded_guest, patch, **members)
    block.page(0, LRU | HEAD, 0xC000_0000, 0xC123_4560 | ANON, 0, 1)
    for number in range(1, PAGES):
        block.page(number, 0, block.base + 1 if number < pages else 0xC000_0000)
    block.patch(block.base + 64 + 16, struct.pack("<i", 4))
    assert block.counts()[:2] == [1 + 5 * (pages > 2), 5 * (pages > 2)]


def test_a_pfn_without_struct_page_is_told_as_such(recorded: Kernel) -> None:
    """A section of SPARSEMEM that is not present: no flags but KPF_NOPAGE, no count (fs/proc/page.c, 6.1)."""
    whole = observe_memmap(recorded)
    (piece,) = whole.pieces
    rest = replace(
        piece, start_pfn=PAGES, pages=piece.pages - PAGES, virtual=piece.virtual + PAGES * whole.page_size
    )
    words = whole.words.copy()
    words[:, :PAGES] = 0
    memmap = replace(whole, pieces=(rest,), words=words)
    assert [names(flags) for flags in kpageflags(memmap, recorded)[:PAGES]] == [{"NOPAGE"}] * PAGES
    assert kpagecount(memmap, recorded)[:PAGES].tolist() == [0] * PAGES
    assert not (kpageflags(memmap, recorded)[PAGES:] >> np.uint64(KPF["NOPAGE"]) & np.uint64(1)).any()

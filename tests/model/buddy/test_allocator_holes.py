"""Whitcroft's remark, demonstrated: a hole inside a block of MAX_ORDER, and a buddy allocator that looks into it.

linux-mm, 25 September 2006: a virtual mem_map is what needs pfn_valid most, for it does not keep to the rule that a
struct page is there out to MAX_ORDER, so the allocator has to ask, and often.  Lameter's side of it: only pfn_valid
pays, which is called rarely, and all else is arithmetic.  Both are counted here.
"""

from __future__ import annotations

from functools import cache

import pytest
from buddies import FLAGS, booted, flat, kind, small, sparse, virtual

from kvmtools.model import machine
from kvmtools.model.buddy.allocator import Buddy, Checks
from kvmtools.model.bugs import KernelBug, Unmapped
from kvmtools.model.eras import NAMES, named
from kvmtools.model.memmaps.conversions import MemMapKind
from kvmtools.model.memmaps.flat_map import flat_map
from kvmtools.model.memmaps.metered_memory import Cost
from kvmtools.model.memmaps.sparse_map import sparse_map
from kvmtools.model.memmaps.virtual_map import virtual_map
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, E820Entry, Range, ZoneSpan

PAGE = 4096
BLOCK = 0x400
"""Pages of the largest block since 2.6; their struct pages of 32 bytes fill 32 KiB."""
RAM_END, HOLE_END = 0x2300, 0x2380
"""A hole of 512 KiB: the struct pages of 128 pfns, one leaf of 4 KiB."""
RAM_AFTER = Range(HOLE_END, 0x2400)


@cache
def configuration(era: str) -> Configuration:
    """48 MiB from QEMU, with the hole at 35 MiB."""
    return machine.configuration(
        era,
        e820=(
            E820Entry(0, 0x9F000, 1),
            E820Entry(0x100000, RAM_END * PAGE - 0x100000, 1),
            E820Entry(HOLE_END * PAGE, (0x3000 - HOLE_END) * PAGE, 1),
        ),
    )


def map_of(name: str, era: str) -> MemMapKind:
    """The maps that a kernel of that era has or would have had, at full size."""
    if name == "flat":
        return flat_map(configuration(era))
    if name == "sparse":
        return sparse_map(configuration(era))
    mem_map = virtual_map(configuration(era), leaf=PAGE)
    if name == "granular":
        for start in range(0, 0x3000, BLOCK):
            mem_map.add(start, start + BLOCK)
    return mem_map


def buddy_of(name: str, era: str, *, holes_in_zone: bool = False, debug_vm: bool = False) -> Buddy:
    """Only the block with the hole is anybody's; zones below and above it would take long and show nothing."""
    prediction = Prediction(configuration(era))
    spans = [
        ZoneSpan(name, 0x2000, 0x2400) if name == "NORMAL" else ZoneSpan(name, 0, 0)
        for name in prediction.configuration.zone_names
    ]
    mem_map = map_of(name, era)
    flags = prediction.memmap.flags
    if name == "sparse":
        flags = Prediction(machine.configuration(era, memory=48 << 20, sparsemem=True)).memmap.flags
    buddy = Buddy(mem_map, spans, era=named(era), flags=flags, holes_in_zone=holes_in_zone, debug_vm=debug_vm)
    buddy.memmap_init()
    return buddy


def lists(buddy: Buddy) -> dict[int, list[int]]:
    """The order and first pfns of all free blocks."""
    zone = next(zone.index for zone in buddy.zones if zone.span.name == "NORMAL")
    return {order: sorted(pfns) for order, pfns in enumerate(buddy.free_lists(zone)) if pfns}


FREE = {9: [0x2000], 8: [0x2200]}
"""Below the hole: [0x2000, 0x2200) and [0x2200, 0x2300), whose buddy [0x2300, 0x2400) begins with the hole."""


class TestFullSize:
    """512 KiB missing from 4 MiB, struct pages of 32 bytes, leaves of 4 KiB."""

    @pytest.mark.parametrize("era", ["2.6.18", "5.10", "6.1", "7.2"])
    def test_a_free_beside_the_hole_is_a_page_fault(self, era: str) -> None:
        """page_is_buddy() reads page->flags or page_type of pfn 0x2300, the first of the hole."""
        buddy = buddy_of("virtual", era)
        first = buddy.mem_map.pfn_to_page(0x2300)
        with pytest.raises(Unmapped, match=rf"the virtual map has no struct page at {first:#x}"):
            buddy.free_all((Range(0x2200, RAM_END),))
        assert not buddy.mem_map.pfn_valid(0x2300)
        assert buddy.mem_map.pfn_valid(0x22FF)
        assert buddy.mem_map.pfn_valid(HOLE_END)

    @pytest.mark.parametrize("era", ["2.6.18", "5.10", "6.1", "7.2"])
    def test_with_checks_it_is_not(self, era: str) -> None:
        buddy = buddy_of("virtual", era, holes_in_zone=True)
        buddy.free_all((Range(0x2000, RAM_END), RAM_AFTER))
        assert lists(buddy) == FREE | {7: [HOLE_END]}
        assert buddy.checks.refused > 0

    def test_2_4_did_not_look(self) -> None:
        """Its bitmap says that the buddy is not free, and list_del() touches only what is: no hole can hurt it."""
        buddy = buddy_of("virtual", "2.4")
        buddy.free_all((Range(0x2000, RAM_END), RAM_AFTER))
        assert lists(buddy) == FREE | {7: [HOLE_END]}

    @pytest.mark.parametrize("era", ["2.6.18", "6.1", "7.2"])
    @pytest.mark.parametrize("name", ["flat", "sparse", "granular"])
    def test_other_maps_need_no_checks(self, name: str, era: str) -> None:
        """FLATMEM has a struct page for the hole, SPARSEMEM for the whole section; and so has a virtual map that is
        populated by 32 KiB, the struct pages of a block."""
        buddy = buddy_of(name, era)
        buddy.free_all((Range(0x2000, RAM_END), RAM_AFTER))
        assert lists(buddy) == FREE | {7: [HOLE_END]}
        assert buddy.checks == Checks(0, 0, 0, 0)

    def test_how_often(self) -> None:
        """2.6.18: every merge is asked about, and every end of merging; only the whole block is refused by the hole."""
        buddy = buddy_of("virtual", "2.6.18", holes_in_zone=True)
        buddy.free_all((Range(0x2200, RAM_END),))
        at_boot = buddy.checks
        assert (at_boot.asked, at_boot.refused) == (8 + 7, 1)  # eight times 32 pages: 7 merges, 8 ends
        pfns = [buddy.alloc(0) for _ in range(256)]
        assert None not in pfns
        for pfn in range(0x2200, RAM_END):
            buddy.free(pfn)
        assert buddy.checks.asked - at_boot.asked == 256 + 255
        assert buddy.checks.refused - at_boot.refused == 1

    @pytest.mark.parametrize(
        ("name", "references", "walk"),
        [("flat", 1, 1), ("sparse", 1, 1), ("virtual", 4, 2), ("granular", 4, 2)],
    )
    def test_what_a_check_costs(self, name: str, references: int, walk: int) -> None:
        """``max_mapnr``, or the word of the section: one reference.  A virtual map reads ``max_pfn`` and, with PAE, an
        entry on each of three levels.  The processor itself walks one level to a large page of the direct map, where
        the image is, and one to another, where the page tables are."""
        assert map_of(name, "2.6.18").cost("pfn_valid", 0x2200)[::2] == (references, walk)


class TestCounts:
    """Blocks of 8 pages, two struct pages on a leaf; RAM has a hole of one leaf, pfns 12 and 13."""

    RAM = (Range(0, 3), Range(5, 12), Range(14, 16))

    @pytest.mark.parametrize("era", [name for name in NAMES if name != "2.4"])
    @pytest.mark.parametrize("holes_in_zone", [False, True])
    def test_virtual(self, era: str, holes_in_zone: bool) -> None:
        mem_map = virtual(self.RAM)
        if not holes_in_zone:
            with pytest.raises(Unmapped):
                booted(mem_map, self.RAM, small(era, 4))
            return
        buddy = booted(mem_map, self.RAM, small(era, 4), holes_in_zone=True)
        assert [sorted(order) for order in buddy.free_lists(0)] == [[2, 5], [0, 6, 14], [8], []]
        assert buddy.checks.refused == 2  # the buddies of 8 and of 14 begin at 12

    @pytest.mark.parametrize("name", ["flat", "sparse", "granular"])
    @pytest.mark.parametrize("era", [name for name in NAMES if name != "2.4"])
    def test_others(self, name: str, era: str) -> None:
        mem_map, flags = kind(name, self.RAM, 4)
        buddy = booted(mem_map, self.RAM, small(era, 4), flags=flags)
        assert [sorted(order) for order in buddy.free_lists(0)] == [[2, 5], [0, 6, 14], [8], []]

    def test_boundary_of_the_granule(self) -> None:
        """Half a block is not enough: pfn 12 of [8, 16) is there only because RAM of the other half is."""
        ram = (Range(8, 12),)
        booted(virtual(ram, granule=8), ram, small("6.1", 4))
        with pytest.raises(Unmapped):
            booted(virtual(ram, granule=4), ram, small("6.1", 4))

    def test_struct_page_that_straddles_leaves(self) -> None:
        """3 KiB each: that of pfn 5 has its first KiB on the leaf of pfn 4 and the rest on one that is not there."""
        ram = (Range(4, 5),)
        mem_map = virtual(ram, size=3072)
        assert mem_map.cost("pfn_valid", 5).references == 1 + 0  # pfn 5 is not below max_pfn
        mem_map.add(8, 9)
        assert not mem_map.pfn_valid(5)
        assert mem_map.read(mem_map.pfn_to_page(5), 0) == 0
        with pytest.raises(Unmapped):
            mem_map.read(mem_map.pfn_to_page(5), 1024)

    @pytest.mark.parametrize("name", ["flat", "sparse", "granular", "virtual"])
    def test_an_allocator_without_checks_never_calls_pfn_valid(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Lameter: it is rarely asked.  Nothing else in the allocator needs it."""
        ram = (Range(0, 16),)
        mem_map, flags = kind(name, ram, 4)
        buddy = booted(mem_map, ram, small("6.1", 4), flags=flags, debug_vm=True)
        monkeypatch.setattr(mem_map, "pfn_valid", None)
        taken = [buddy.alloc(order) for order in (0, 1, 2, 3)]
        for order, pfn in enumerate(taken):
            assert pfn is not None
            buddy.free(pfn, order)
        assert buddy.free_lists(0)[3] == (8, 0)

    @pytest.mark.parametrize("name", ["flat", "sparse", "granular", "virtual"])
    def test_checks_are_what_a_free_costs_more(self, name: str) -> None:
        """Measured on the whole of one free, with and without: the difference is the calls of pfn_valid."""
        ram = (Range(0, 16),)
        costs: dict[bool, Cost] = {}
        checks = Checks(0, 0, 0, 0)
        for holes_in_zone in (False, True):
            mem_map, flags = kind(name, ram, 4)
            buddy = booted(mem_map, ram, small("2.6.18", 4), flags=flags, holes_in_zone=holes_in_zone)
            before = buddy.checks
            pfn = buddy.alloc(0)
            assert pfn == 8
            costs[holes_in_zone] = mem_map.space.measure(lambda buddy=buddy, pfn=pfn: buddy.free(pfn))
            checks = Checks(*(after - earlier for after, earlier in zip(buddy.checks, before, strict=True)))
        assert checks.asked == 3  # orders 0, 1 and 2 merge; of order 3 there is no more
        assert checks.refused == 0
        assert costs[True].references - costs[False].references == checks.references
        assert checks.references == 3 * {"flat": 1, "sparse": 1, "granular": 3, "virtual": 3}[name]

    def test_debug_vm_checks_too(self) -> None:
        """page_is_consistent(), 2.6.18: bad_range() asks pfn_valid too: once a free, a split, a block handed out."""
        ram = (Range(0, 16),)
        asked = []
        for debug_vm in (False, True):
            buddy = booted(flat(16, 4), ram, small("2.6.18", 4), holes_in_zone=True, debug_vm=debug_vm)
            before = buddy.checks.asked
            pfn = buddy.alloc(0)
            assert pfn is not None
            split = buddy.checks.asked - before
            buddy.free(pfn)
            asked.append((split, buddy.checks.asked - before - split))
        assert asked == [(0, 3), (4, 4)]

    def test_bad_range_of_a_hole(self) -> None:
        """A hole within the zone is no page to be freed, if anyone asks."""
        mem_map = flat(13, 4)
        buddy = booted(
            mem_map,
            (Range(0, 8),),
            small("2.6.18", 4),
            zones=(ZoneSpan("NORMAL", 0, 16),),
            holes_in_zone=True,
            debug_vm=True,
        )
        buddy.pages.initialise(mem_map.pfn_to_page(14), 0, 1, 0)
        with pytest.raises(KernelBug, match="pfn 0xe is not in the zone"):
            buddy.free(14)
        assert buddy.checks.refused == 1

    def test_5_10_asks_again_for_the_tail(self) -> None:
        """buddy_merge_likely() of 5.10 asks about the buddy, which it needs to be there, and about the parent's."""
        ram = (Range(0, 8),)
        buddy = booted(flat(8, 4), ram, small("5.10", 4), holes_in_zone=True)
        for _ in range(8):
            buddy.alloc(0)
        before = buddy.checks.asked
        buddy.free(0)
        assert buddy.checks.asked - before == 3
        before = buddy.checks.asked
        buddy.free(
            1
        )  # merges with 0; then order 1 is refused, and is too large to ask about more than the refusal
        assert buddy.checks.asked - before == 2 + 2
        buddy = booted(flat(8, 4), ram, small("2.6.32", 4), holes_in_zone=True)
        for _ in range(8):
            buddy.alloc(0)
        before = buddy.checks.asked
        buddy.free(0)
        assert buddy.checks.asked - before == 1

    def test_5_10_needs_that(self) -> None:
        """The parent of a block above a hole begins in the hole: its zone must not be looked at."""
        ram = (Range(2, 8),)
        mem_map = virtual(ram)
        buddy = booted(mem_map, ram, small("5.10", 4), zones=(ZoneSpan("NORMAL", 0, 8),), holes_in_zone=True)
        assert [sorted(order) for order in buddy.free_lists(0)] == [[], [2], [4], []]
        assert not mem_map.pfn_valid(0)
        assert buddy.alloc(1) == 2
        buddy.free(2, 1)
        assert buddy.free_lists(0)[1] == (2,)

    def test_costs_are_summed_over_calls(self) -> None:
        buddy = booted(
            sparse((Range(0, 16),), 64),
            (Range(0, 16),),
            small("2.6.18", 4),
            flags=kind("sparse", (Range(0, 16),), 4)[1],
            holes_in_zone=True,
        )
        one = buddy.mem_map.cost("pfn_valid", 1)
        assert buddy.checks.references == buddy.checks.asked * one.references
        assert buddy.checks.walk_references == buddy.checks.asked * one.walk_references


def test_flags_of_a_flat_map() -> None:
    """The default of these tests is what a FLATMEM kernel with four zones has."""
    assert Prediction(configuration("6.1")).memmap.flags == FLAGS

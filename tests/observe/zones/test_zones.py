"""Zones of recorded guests: every list followed, every damage to a list named."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from kvmtools.errors import UsageError
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.pages.memmap import MemMap, observe_memmap
from kvmtools.observe.zones.free_lists import FreeList
from kvmtools.observe.zones.zones import Zone, needs, observe_zones

Patch = Callable[[int, bytes], None]


def observe(kernel: Kernel) -> tuple[MemMap, tuple[Zone, ...]]:
    memmap = observe_memmap(kernel)
    return memmap, observe_zones(kernel, lambda: memmap)


def longest(zones: tuple[Zone, ...]) -> tuple[Zone, FreeList]:
    """The free list with the most blocks."""
    lists = [(zone, each) for zone in zones for area in zone.free_area for each in area.lists]
    return max(lists, key=lambda found: len(found[1].pages))


def again(kernel: Kernel, zone: Zone, broken: FreeList) -> FreeList:
    """The same list, observed anew."""
    found = observe(kernel)[1][zone.index].free_area[broken.order].lists
    return next(each for each in found if each.migratetype == broken.migratetype)


def link(memmap: MemMap, pfn: int) -> int:
    """Where ``page->lru`` of a pfn lies: word 1 of ``struct page`` (FACTS C.3)."""
    return memmap.pfn_to_page(pfn) + 4


def word(value: int) -> bytes:
    return struct.pack("<I", value)


def test_zones_adjoin_and_hold_what_they_manage(recorded: Kernel) -> None:
    memmap, zones = observe(recorded)
    assert [zone.name for zone in zones] == ["DMA", "NORMAL", "HIGHMEM", "MOVABLE"]
    dma, normal, highmem, movable = zones
    assert (dma.start_pfn, dma.end_pfn, normal.end_pfn) == (1, 0x1000, highmem.start_pfn)
    assert highmem.end_pfn == memmap.length
    assert (movable.spanned, movable.pcp, movable.buddy_pages) == (0, (), 0)
    for zone in zones:
        assert zone.managed <= zone.present <= zone.spanned
        low, high, promo = (zone.watermarks[name] for name in ("low", "high", "promo"))
        # Equal steps (__setup_per_zone_wmarks), and none in a zone without pages.
        assert low - zone.watermarks["min"] == high - low == promo - high
        assert bool(zone.managed) == (high > low)
        assert len(zone.lowmem_reserve) == len(zones)
        assert not zone.locked
    # Shares of what higher zones manage (setup_per_zone_lowmem_reserve): a 256th for DMA, a 32nd for NORMAL.
    assert normal.lowmem_reserve == (0, 0, highmem.managed // 32, highmem.managed // 32)
    assert highmem.lowmem_reserve == movable.lowmem_reserve == (0, 0, 0, 0)
    _none, above, *more = dma.lowmem_reserve
    assert more[0] == more[1] > above
    # It was reckoned before the kernel gave back its init sections, 1.5 MiB at most.
    assert (normal.managed - 384) // 256 <= above <= normal.managed // 256


def test_lists_hold_every_free_block_and_no_other(recorded: Kernel) -> None:
    memmap, zones = observe(recorded)
    listed = np.concatenate([each.pages for zone in zones for area in zone.free_area for each in area.lists])
    assert np.array_equal(np.sort(listed), np.flatnonzero(memmap.buddy))
    for zone in zones:
        assert zone.free_pages == zone.buddy_pages
        for area in zone.free_area:
            assert area.nr_free == area.blocks
            for each in area.lists:
                assert each.broken is None
                assert (memmap.buddy_order[each.pages] == each.order).all()
                assert (memmap.flags[each.pages] >> 30 == zone.index).all()


def test_a_list_is_in_the_order_of_its_links(recorded: Kernel) -> None:
    memmap, zones = observe(recorded)
    _zone, each = longest(zones)
    assert len(each.pages) >= 3
    for before, after in zip(each.pages[:-1].tolist(), each.pages[1:].tolist(), strict=True):
        assert memmap.lru_next[before] == link(memmap, after)
        assert memmap.lru_prev[after] == link(memmap, before)


def test_cpus_keep_what_they_count(recorded: Kernel) -> None:
    memmap, zones = observe(recorded)
    pagesets = [pageset for zone in zones for pageset in zone.pcp]
    assert sum(pageset.count for pageset in pagesets) > 0
    assert {pageset.cpu for pageset in pagesets} == {0, 1}
    for pageset in pagesets:
        assert pageset.locked is False
        # Three lists of an order, for UNMOVABLE, MOVABLE and RECLAIMABLE.  The PAE kernel has transparent huge pages,
        # and two lists more.
        small, large = pageset.lists[:12], pageset.lists[12:]
        assert pageset.count == sum(len(each.pages) << at // 3 for at, each in enumerate(small))
        assert [len(each.pages) for each in large] == [0] * (2 if recorded.architecture is I386_PAE else 0)
    pages = np.concatenate([each.pages for pageset in pagesets for each in pageset.lists])
    assert len(np.unique(pages)) == len(pages)
    assert not memmap.in_buddy_block[pages].any()
    assert (memmap.refcount[pages] == 0).all()


def test_what_a_cpus_list_is_for_is_not_known_here(recorded: Kernel) -> None:
    (one, *_others) = (pageset for zone in observe(recorded)[1] for pageset in zone.pcp)
    assert {each.order for each in one.lists} == {None}
    with pytest.raises(UsageError, match="which order a CPU's list is for, only the model says"):
        _ = one.pages


def test_a_list_that_loops(recorded: Kernel, patch: Patch) -> None:
    memmap, zones = observe(recorded)
    zone, each = longest(zones)
    first, last = int(each.pages[0]), int(each.pages[-1])
    patch(link(memmap, last), word(link(memmap, first)))
    broken = again(recorded, zone, each)
    assert broken.broken == "never comes back to its head: it loops"
    assert sorted(broken.pages) == sorted(each.pages)


def test_a_list_that_leaves_mem_map(recorded: Kernel, patch: Patch) -> None:
    memmap, zones = observe(recorded)
    zone, each = longest(zones)
    middle = int(each.pages[1])
    patch(link(memmap, middle), word(0x100))  # LIST_POISON1
    broken = again(recorded, zone, each)
    assert broken.broken == f"pfn {middle:#x} leads to 0x100, which is no free page"
    assert broken.pages.tolist() == each.pages[:2].tolist()


def test_a_pointer_into_the_middle_of_a_page(recorded: Kernel, patch: Patch) -> None:
    memmap, zones = observe(recorded)
    zone, each = longest(zones)
    patch(link(memmap, int(each.pages[0])), word(link(memmap, int(each.pages[1])) + 4))
    assert "which is no free page" in str(again(recorded, zone, each).broken)


def test_a_list_whose_links_disagree(recorded: Kernel, patch: Patch) -> None:
    memmap, zones = observe(recorded)
    zone, each = longest(zones)
    victim, other = int(each.pages[2]), int(each.pages[0])
    patch(link(memmap, victim) + 4, word(link(memmap, other)))
    broken = again(recorded, zone, each)
    wanted = link(memmap, int(each.pages[1]))
    assert broken.broken == (
        f"pfn {victim:#x} has prev {link(memmap, other):#x} where next came from {wanted:#x}"
    )
    assert np.array_equal(broken.pages, each.pages)


def test_a_page_left_out(recorded: Kernel, patch: Patch) -> None:
    """``next`` skips a page: the page after it still points back at it."""
    memmap, zones = observe(recorded)
    zone, each = longest(zones)
    patch(link(memmap, int(each.pages[0])), word(link(memmap, int(each.pages[2]))))
    broken = again(recorded, zone, each)
    assert str(broken.broken).startswith(f"pfn {int(each.pages[2]):#x} has prev")
    assert len(broken.pages) == len(each.pages) - 1


def test_a_list_that_ends_in_another(recorded: Kernel, patch: Patch) -> None:
    memmap, zones = observe(recorded)
    zone, each = longest(zones)
    lists = [
        one for area in zone.free_area for one in area.lists if one.order != each.order and len(one.pages)
    ]
    patch(link(memmap, int(each.pages[-1])), word(link(memmap, int(lists[0].pages[-1]))))
    broken = again(recorded, zone, each)
    assert str(broken.broken).startswith("ends at the head of another list, 0x")
    assert broken.pages.tolist() == [*each.pages.tolist(), int(lists[0].pages[-1])]


def test_a_page_in_use_on_a_free_list_is_followed(recorded: Kernel, patch: Patch) -> None:
    """PageBuddy is taken from a listed page: the list still holds it, and is sound as a list."""
    memmap, zones = observe(recorded)
    zone, each = longest(zones)
    victim = int(each.pages[1])
    patch(memmap.pfn_to_page(victim) + memmap.offsets["_mapcount"], word(0xFFFF_FFFF))
    patch(memmap.pfn_to_page(victim) + memmap.offsets["_refcount"], word(1))
    found = again(recorded, zone, each)
    assert found.broken is None
    assert np.array_equal(found.pages, each.pages)


def test_a_per_cpu_list_that_is_cut(recorded: Kernel, patch: Patch) -> None:
    memmap, zones = observe(recorded)
    zone, pageset, at = next(
        (zone, pageset, at)
        for zone in zones
        for pageset in zone.pcp
        for at, each in enumerate(pageset.lists)
        if len(each.pages) > 1
    )
    patch(link(memmap, int(pageset.lists[at].pages[0])), word(0))
    broken = observe(recorded)[1][zone.index].pcp[pageset.cpu].lists[at]
    assert "leads to 0x0, which is no free page" in str(broken.broken)


def test_each_cpus_share_counts(recorded: Kernel, patch: Patch) -> None:
    _memmap, zones = observe(recorded)
    zone = zones[1]
    vmlinux = recorded.vmlinux
    record = recorded.pointer(zone.address + vmlinux.offset("struct zone", "per_cpu_zonestats"))
    share = recorded.per_cpu(record, 1) + vmlinux.offset("struct per_cpu_zonestat", "vm_stat_diff")
    patch(share, struct.pack("<b", -7))
    after = observe(recorded)[1][1]
    assert after.vm_stat_diff[1]["NR_FREE_PAGES"] == -7
    assert after.free_pages - after.vm_stat["NR_FREE_PAGES"] == -7 + after.vm_stat_diff[0]["NR_FREE_PAGES"]


def test_needs_are_captured_ram(recorded: Kernel) -> None:
    for wanted in needs(recorded):
        assert len(recorded.memory.read(wanted.start, len(wanted))) == len(wanted)


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_lists_of_any_length_are_followed(recorded: Kernel, patch: Patch, count: int) -> None:
    """A list made by hand, of every second page of a large block in descending order."""
    memmap, zones = observe(recorded)
    area = next(area for area in reversed(zones[1].free_area) if area.blocks)
    block = next(int(each.pages[0]) for each in area.lists if len(each.pages))
    zone, each = longest(zones)
    pages = [block + 2 * at for at in reversed(range(min(count, 512)))]
    head = int(memmap.lru_prev[each.pages[0]])
    links = [head, *(link(memmap, pfn) for pfn in pages), head]
    for before, here, after in zip(links, links[1:], links[2:], strict=False):
        patch(here, struct.pack("<II", after, before))
    patch(head, struct.pack("<II", links[1], links[-2]))
    found = again(recorded, zone, each)
    assert found.broken is None
    assert found.pages.tolist() == pages

"""The three ways to note a page's address, and what their BUG_ONs say."""

from __future__ import annotations

import pytest

from kvmtools.model import eras
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pkmap.area import PkmapArea, bucket_of
from kvmtools.model.pkmap.page_address import (
    LISTED,
    POISONED,
    POOLED,
    UNUSED,
    IndexedAddresses,
    MemberAddresses,
    PageAddresses,
    PoolAddresses,
    page_addresses,
)

AREA = PkmapArea(0xFE000000, 4, 0x163)
PAGES = [0xC4000000 + 32 * number for number in range(2000)]
LOWMEM = 0xC1000000


def test_what_links_say_in_words() -> None:
    assert (UNUSED, LISTED, POOLED, POISONED) == ("unused", "listed", "pooled", "poisoned")


def addresses(era: str) -> PageAddresses:
    return page_addresses(eras.named(era), AREA, lambda page: page != LOWMEM)


@pytest.mark.parametrize(
    ("era", "kind", "multiplier"),
    [
        ("2.4", MemberAddresses, None),
        ("2.6.18", PoolAddresses, 0x9E370001),
        ("2.6.24", PoolAddresses, 0x9E370001),
        ("2.6.32", PoolAddresses, 0x9E370001),
        ("5.10", IndexedAddresses, 0x61C88647),
        ("6.1", IndexedAddresses, 0x61C88647),
        ("7.2", IndexedAddresses, 0x61C88647),
    ],
)
def test_each_era_has_its_own(era: str, kind: type, multiplier: int | None) -> None:
    """Source: page->virtual in 2.4.18, page_address_pool in 2.6, page_address_maps[PKMAP_NR()] in 5.10 and later."""
    ours = addresses(era)
    assert type(ours) is kind
    if multiplier is not None:
        assert isinstance(ours, IndexedAddresses)
        assert ours.page_slot(PAGES[5]) == bucket_of(PAGES[5], multiplier=multiplier)


@pytest.mark.parametrize("era", ["2.4", "2.6.32", "6.1"])
def test_an_address_is_noted_and_forgotten(era: str) -> None:
    ours = addresses(era)
    assert ours.page_address(PAGES[1]) is None
    assert ours.associations() == []
    ours.set_page_address(PAGES[1], 0xFE001000)
    ours.set_page_address(PAGES[2], 0xFE002000)
    assert ours.page_address(PAGES[1]) == 0xFE001000
    assert ours.page_address(PAGES[2]) == 0xFE002000
    assert sorted(ours.associations()) == [(PAGES[1], 0xFE001000), (PAGES[2], 0xFE002000)]
    ours.set_page_address(PAGES[1], None)
    assert ours.page_address(PAGES[1]) is None
    assert ours.associations() == [(PAGES[2], 0xFE002000)]
    # Neither a field that is NULL already nor a page without an entry is an error.
    ours.set_page_address(PAGES[1], None)
    ours.set_page_address(PAGES[3], None)
    assert ours.associations() == [(PAGES[2], 0xFE002000)]


@pytest.mark.parametrize("era", ["2.6.32", "6.1"])
def test_pages_of_one_bucket_are_told_apart(era: str) -> None:
    ours = addresses(era)
    assert isinstance(ours, IndexedAddresses)
    bucket = ours.page_slot(PAGES[0])
    first, second, third = [page for page in PAGES if ours.page_slot(page) == bucket][:3]
    for slot, page in enumerate((first, second, third), 1):
        ours.set_page_address(page, AREA.address_of(slot))
    assert [ours.maps[index].page for index in ours.htable[bucket]] == [first, second, third]
    ours.set_page_address(second, None)
    assert [ours.maps[index].page for index in ours.htable[bucket]] == [first, third]
    assert [ours.page_address(page) for page in (first, second, third)] == [0xFE001000, None, 0xFE003000]
    ours.set_page_address(second, 0xFE002000)
    assert [ours.maps[index].page for index in ours.htable[bucket]] == [first, third, second]


def test_an_indexed_entry_is_its_slots_and_keeps_what_it_said() -> None:
    """[R] 6.1: page_address_maps[] is zero until used; a removed entry has LIST_POISON in its pointers."""
    ours = addresses("6.1")
    assert isinstance(ours, IndexedAddresses)
    entry = ours.maps[3]
    assert (entry.page, entry.virtual, entry.links) == (0, 0, UNUSED)
    assert len(ours.maps) == 4
    ours.set_page_address(PAGES[7], 0xFE003000)
    assert (entry.page, entry.virtual, entry.links) == (PAGES[7], 0xFE003000, LISTED)
    ours.set_page_address(PAGES[7], None)
    assert (entry.page, entry.virtual, entry.links) == (PAGES[7], 0xFE003000, POISONED)
    assert [other.links for other in ours.maps[:3]] == [UNUSED] * 3


def test_the_pool_is_a_queue_that_begins_with_the_last_entry() -> None:
    """Source: page_address_init adds each entry at the head; set_page_address takes the head, returns to the tail."""
    ours = addresses("2.6.32")
    assert isinstance(ours, PoolAddresses)
    assert ours.pool == [3, 2, 1, 0]
    assert {entry.links for entry in ours.maps} == {POOLED}
    ours.set_page_address(PAGES[1], 0xFE001000)
    ours.set_page_address(PAGES[2], 0xFE002000)
    assert ours.pool == [1, 0]
    assert (ours.maps[3].page, ours.maps[3].virtual, ours.maps[3].links) == (PAGES[1], 0xFE001000, LISTED)
    ours.set_page_address(PAGES[1], None)
    assert ours.pool == [1, 0, 3]
    assert (ours.maps[3].page, ours.maps[3].virtual, ours.maps[3].links) == (PAGES[1], 0xFE001000, POOLED)


def test_a_lowmem_page_must_not_be_noted() -> None:
    for era in ("2.6.32", "6.1"):
        for virtual in (0xFE001000, None):
            with pytest.raises(KernelBug, match="lowmem page 0xc1000000") as bug:
                addresses(era).set_page_address(LOWMEM, virtual)
            assert bug.value.condition == "!PageHighMem(page)"


def test_the_pool_must_not_run_dry() -> None:
    ours = addresses("2.6.32")
    for slot in range(4):
        ours.set_page_address(PAGES[slot], AREA.address_of(slot))
    with pytest.raises(KernelBug, match="no entry is left for address 0xfe000000") as bug:
        ours.set_page_address(PAGES[9], 0xFE000000)
    assert bug.value.condition == "list_empty(&page_address_pool)"


@pytest.mark.parametrize("era", ["2.6.32", "6.1"])
def test_of_two_notes_about_a_page_the_first_is_removed(era: str) -> None:
    """The loop of set_page_address() is left at the first entry that is about the page."""
    ours = addresses(era)
    for slot in (1, 2):
        ours.set_page_address(PAGES[1], AREA.address_of(slot))
    ours.set_page_address(PAGES[1], None)
    assert ours.associations() == [(PAGES[1], AREA.address_of(2))]

"""Slots, counts, cursor and flushes with the lock held, against Gorman's account and 6.1 as measured."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import pytest

from kvmtools.model import eras
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.tlb import Tlbs
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration

T = TypeVar("T")
SMALL = PkmapArea(0xFE000000, 4, 0x163)


def page(number: int) -> int:
    """The address of a struct page of 32 bytes."""
    return 0xC4000000 + 32 * number


def result(steps: Generator[str, None, T]) -> T:
    """Run to the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def small(era: str = "6.1", nr_cpus: int = 1) -> PkmapTable:
    return PkmapTable(SMALL, eras.named(era), nr_cpus=nr_cpus)


@pytest.mark.parametrize(("pae", "slots", "first"), [(True, 512, 0xFF601000), (False, 1024, 0xFF401000)])
def test_the_first_slot_is_1(
    configure: Callable[..., Configuration], pae: bool, slots: int, first: int
) -> None:
    """[R] 6.1, small builds: 0xff601000 with PAE, 0xff401000 without; slot 0 comes only after the cursor wrapped."""
    area = Prediction(configure(pae=pae)).pkmap
    assert area is not None
    table = PkmapTable(area, eras.named("6.1"))
    assert table.last_pkmap_nr == 0
    assert table.pkmap_count == [0] * slots
    assert table.ptes == [None] * slots
    assert result(table.kmap_high(page(1))) == first
    assert len(table.tlbs.cpus) == 1


def test_the_counts_are_gormans() -> None:
    """0 free, 1 waiting for a flush with the page still there, n for n - 1 users."""
    table = small()
    result(table.kmap_high(page(7)))
    result(table.kmap_high(page(7)))
    assert table.pkmap_count == [0, 3, 0, 0]
    assert table.kunmap_high(page(7)) is False
    assert table.kunmap_high(page(7)) is True
    assert table.pkmap_count == [0, 1, 0, 0]
    assert table.ptes == [None, page(7), None, None]
    assert table.page_address(page(7)) == 0xFE001000
    result(table.flush_all_zero_pkmaps())
    assert table.pkmap_count == [0, 0, 0, 0]
    assert table.ptes == [None] * 4
    assert table.page_address(page(7)) is None


def test_a_page_that_waits_is_taken_up_again_without_moving_the_cursor() -> None:
    table = small()
    first = result(table.kmap_high(page(7)))
    table.kunmap_high(page(7))
    assert result(table.kmap_high(page(7))) == first
    assert (table.last_pkmap_nr, table.pkmap_count[1], table.flushes) == (1, 2, 0)


def test_flushes_wait_until_the_cursor_wraps() -> None:
    """Gorman: every slot is used once before the TLB is flushed, for a flush is expensive."""
    table = small()
    for number in range(1, 4):
        result(table.kmap_high(page(number)))
        table.kunmap_high(page(number))
    assert table.pkmap_count == [0, 1, 1, 1]
    assert table.flushes == 0
    assert result(table.kmap_high(page(9))) == 0xFE000000
    assert table.pkmap_count == [2, 0, 0, 0]
    assert (table.last_pkmap_nr, table.flushes) == (0, 1)


@pytest.mark.parametrize("cursor", range(4))
def test_a_full_area_sends_the_caller_to_sleep_on_the_last_slot(cursor: int) -> None:
    """The tries are counted anew at the wrap, so that wherever the cursor was it ends on the last slot."""
    table = small()
    for number in range(4):
        result(table.kmap_high(page(number)))
    table.last_pkmap_nr = cursor
    assert result(table.kmap_high(page(9))) is None
    assert table.last_pkmap_nr == 3
    assert table.pkmap_count == [2, 2, 2, 2]
    assert table.flushes == 0
    assert table.kunmap_high(page(2)) is True
    # The next slot tried is 0, so a flush is the first thing that happens.
    assert result(table.kmap_high(page(9))) == 0xFE003000
    assert table.flushes == 1


def test_one_free_slot_is_found_wherever_it_is() -> None:
    for cursor in range(4):
        for free in range(4):
            table = small()
            for slot in range(4):
                result(table.kmap_high(page(slot)))
            table.kunmap_high(page((free - 1) % 4))
            result(table.flush_all_zero_pkmaps())
            assert table.pkmap_count[free] == 0
            table.last_pkmap_nr = cursor
            assert result(table.kmap_high(page(9))) == SMALL.address_of(free)


@pytest.mark.parametrize(("era", "idle"), [("2.4", 1), ("2.6.24", 1), ("2.6.32", 0), ("6.1", 0), ("7.2", 0)])
def test_when_nothing_was_cleared_only_old_kernels_flush(era: str, idle: int) -> None:
    """Source: flush_all_zero_pkmaps in mm/highmem.c; 2.6.32 has need_flush, 2.6.24 has not."""
    table = small(era)
    result(table.flush_all_zero_pkmaps())
    assert table.flushes == idle
    result(table.kmap_high(page(1)))
    table.kunmap_high(page(1))
    result(table.flush_all_zero_pkmaps())
    assert table.flushes == idle + 1


def test_what_somebody_sees_who_does_not_take_the_lock() -> None:
    """The PTE comes before the count, and the count goes before the PTE."""
    table = small(nr_cpus=2)
    seen = [(said, table.pkmap_count[1], table.ptes[1]) for said in table.kmap_high(page(5))]
    assert seen == [
        ("slot 1: set_pte", 0, page(5)),
        ("slot 1: count 1", 1, page(5)),
        ("slot 1: set_page_address", 1, page(5)),
    ]
    table.kunmap_high(page(5))
    flushed = [
        (said, table.pkmap_count[1], table.ptes[1], table.page_address(page(5)), table.tlbs.seen(1, 1))
        for said in table.flush_all_zero_pkmaps()
    ]
    assert flushed == [
        ("slot 1: count 0", 0, page(5), 0xFE001000, {page(5)}),
        ("slot 1: pte_clear", 0, None, 0xFE001000, {page(5)}),
        ("slot 1: set_page_address(NULL)", 0, None, None, {page(5)}),
        ("CPU 0: flush_tlb", 0, None, None, {page(5)}),
        ("CPU 1: flush_tlb", 0, None, None, set()),
    ]


def test_messages_call_a_page_what_its_owner_calls_it() -> None:
    table = PkmapTable(SMALL, eras.named("6.1"), page_name=lambda p: f"number {(p - page(0)) // 32}")
    with pytest.raises(KernelBug, match=r"^BUG_ON\(!vaddr\): kunmap of page number 3, which is not mapped$"):
        table.kunmap_high(page(3))


def test_what_the_kernel_would_stop_at() -> None:
    table = small()
    with pytest.raises(
        KernelBug, match=r"^BUG_ON\(!vaddr\): kunmap of page 0xc4000020, which is not mapped$"
    ):
        table.kunmap_high(page(1))
    result(table.kmap_high(page(1)))
    table.kunmap_high(page(1))
    with pytest.raises(KernelBug, match=r"--pkmap_count\[nr\] == 0.*kunmap of slot 1, which has no user"):
        table.kunmap_high(page(1))
    assert table.pkmap_count[1] == 0
    with pytest.raises(
        KernelBug, match=r"pkmap_count\[PKMAP_NR\(vaddr\)\] < 2.*slot 1 had a page and the count 0"
    ):
        result(table.kmap_high(page(1)))
    assert table.pkmap_count[1] == 1
    table.ptes[1] = None
    with pytest.raises(
        KernelBug, match=r"pte_none\(pkmap_page_table\[i\]\).*slot 1 had the count 1 and no PTE"
    ):
        result(table.flush_all_zero_pkmaps())


def test_a_count_below_0_is_not_noticed_by_kunmap() -> None:
    """The kernel's switch has cases for 0 and 1 only."""
    table = small()
    result(table.kmap_high(page(1)))
    table.pkmap_count[1] = 0
    assert table.kunmap_high(page(1)) is False
    assert table.pkmap_count[1] == -1


def test_lowmem_pages_have_an_address_of_their_own() -> None:
    table = PkmapTable(
        SMALL,
        eras.named("6.1"),
        highmem=lambda p: p >= page(100),
        lowmem_address=lambda p: p - page(0) + 0xC0000000,
    )
    assert table.page_address(page(3)) == 0xC0000060
    assert table.page_address(page(100)) is None
    plain = small()
    assert plain.highmem(page(0)) is True
    assert plain.lowmem_address(page(0)) == 0


def test_tlbs_hold_what_was_loaded_until_they_are_flushed() -> None:
    tlbs = Tlbs(2)
    tlbs.load(3, page(1))
    tlbs.load(3, page(2))
    tlbs.load(1, page(4))
    assert tlbs.seen(0, 3) == tlbs.seen(1, 3) == {page(1), page(2)}
    tlbs.flush(0)
    assert tlbs.seen(0, 3) == tlbs.seen(0, 1) == set()
    assert tlbs.seen(1, 3) == {page(1), page(2)}
    assert tlbs.seen(1, 1) == {page(4)}

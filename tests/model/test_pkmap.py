"""The pkmap model against Gorman's account, 6.1 as measured, and an oracle of another shape."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvmtools.model.pkmap import (
    GOLDEN_RATIO_PRIME_32,
    KernelBug,
    MustSleep,
    PkmapArea,
    PkmapModel,
    bucket_of,
    expected_protection,
    legal_pair,
    user_count,
)
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration

Configure = Callable[..., Configuration]

PAE = PkmapArea(0xFF600000, 512, 0x8000000000000163)
SMALL = PkmapArea(0xFF600000, 4, 0x163)
MEM_MAP = 0xC4000000


def page(number: int) -> int:
    """The address of a struct page of 32 bytes."""
    return MEM_MAP + 32 * number


def test_the_first_slot_is_1(configure: Configure) -> None:
    """[R]: 0xff601000 with PAE, 0xff401000 without; slot 0 comes only after the cursor wrapped."""
    for pae, address in ((True, 0xFF601000), (False, 0xFF401000)):
        area = Prediction(configure(pae=pae)).pkmap
        assert area is not None
        assert PkmapModel(area).kmap(page(1)) == address


def test_the_counts_are_gormans() -> None:
    """0 free, 1 waiting for a flush with the page still there, n for n - 1 users."""
    model = PkmapModel(PAE)
    assert model.counts[1] == 0
    model.kmap(page(7))
    model.kmap(page(7))
    assert model.counts[1] == 3
    assert user_count(model.counts[1]) == 2
    assert model.kunmap(page(7)) is False
    assert model.kunmap(page(7)) is True
    assert model.counts[1] == 1
    assert model.pages[1] == page(7)
    assert model.page_address(page(7)) == 0xFF601000
    assert model.flush_all_zero() is True
    assert model.counts[1] == 0
    assert model.pages[1] is None
    assert model.page_address(page(7)) is None
    assert model.flush_all_zero() is False


def test_a_page_that_waits_is_taken_up_again_without_moving_the_cursor() -> None:
    model = PkmapModel(PAE)
    first = model.kmap(page(7))
    model.kunmap(page(7))
    assert model.kmap(page(7)) == first
    assert (model.cursor, model.counts[1]) == (1, 2)


def test_flushes_wait_until_the_cursor_wraps() -> None:
    """Gorman: every slot is used once before the TLB is flushed, for a flush is expensive."""
    model = PkmapModel(SMALL)
    for number in range(1, 4):
        model.kmap(page(number))
        model.kunmap(page(number))
    assert model.counts == [0, 1, 1, 1]
    assert model.kmap(page(9)) == SMALL.address_of(0)
    assert model.counts == [2, 0, 0, 0]


def test_a_full_area_makes_the_caller_sleep() -> None:
    model = PkmapModel(SMALL)
    for number in range(4):
        model.kmap(page(number))
    with pytest.raises(MustSleep, match="all 4 pkmap slots"):
        model.kmap(page(9))
    assert model.cursor == 3
    assert min(model.counts) == 2
    assert model.kunmap(page(2)) is True
    # The next slot tried is 0, so a flush is the first thing that happens.
    assert model.kmap(page(9)) == SMALL.address_of(3)


def test_what_the_kernel_would_stop_at() -> None:
    model = PkmapModel(PAE)
    with pytest.raises(KernelBug, match="not mapped"):
        model.kunmap(page(1))
    model.kmap(page(1))
    model.kunmap(page(1))
    with pytest.raises(KernelBug, match="no user"):
        model.kunmap(page(1))
    assert model.counts[1] == 1
    model.pages[1] = None
    with pytest.raises(KernelBug, match="no PTE"):
        model.flush_all_zero()


def test_lowmem_pages_need_no_slot() -> None:
    model = PkmapModel(
        PAE, highmem=lambda p: p >= page(100), lowmem_address=lambda p: p - MEM_MAP + 0xC0000000
    )
    assert model.kmap(page(3)) == model.page_address(page(3)) == 0xC0000060
    assert model.kunmap(page(3)) is False
    assert model.cursor == 0
    assert model.kmap(page(100)) == 0xFF601000


def test_the_hash() -> None:
    """hash_ptr takes the top 7 bits of a 32-bit product; two multipliers were in use."""
    assert bucket_of(1) == 0x61C88647 >> 25 == 48
    assert bucket_of(2) == 0xC3910C8E >> 25
    assert bucket_of(0xC4000020) == ((0xC4000020 * 0x61C88647) % 2**32) // 2**25
    assert bucket_of(1, multiplier=GOLDEN_RATIO_PRIME_32) == 79
    assert bucket_of(0x100000001) == bucket_of(1)


def test_two_pages_in_one_bucket_are_told_apart() -> None:
    first = page(0)
    second = next(page(n) for n in range(1, 2000) if bucket_of(page(n)) == bucket_of(first))
    model = PkmapModel(PAE)
    assert model.kmap(first) == 0xFF601000
    assert model.kmap(second) == 0xFF602000
    assert model.buckets[bucket_of(first)] == [1, 2]
    assert (model.page_address(first), model.page_address(second)) == (0xFF601000, 0xFF602000)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0x8000000000000163),
        ({"pti": True}, 0x8000000000000063),
        ({"pge": False}, 0x8000000000000063),
        ({"nx": False}, 0x163),
        ({"pae": False}, 0x163),
        ({"pae": False, "pge": False}, 0x063),
    ],
)
def test_kmap_prot(configure: Configure, changes: dict[str, bool], expected: int) -> None:
    """[R] for the first and the fifth: what a slot's PTE holds besides the pfn."""
    assert expected_protection(configure(**changes)) == expected


@pytest.mark.parametrize(
    ("count", "present", "legal"),
    [
        (0, False, True),
        (0, True, False),
        (1, True, True),
        (1, False, False),
        (5, True, True),
        (-1, True, False),
        (-1, False, False),
    ],
)
def test_legal_pairs(count: int, present: bool, legal: bool) -> None:
    assert legal_pair(count, present) is legal


def test_user_count_is_never_negative() -> None:
    assert [user_count(count) for count in (-1, 0, 1, 2, 5)] == [0, 0, 0, 1, 4]


def test_slots_and_addresses(configure: Configure) -> None:
    assert PAE.slot_of(0xFF600000) == 0
    assert PAE.slot_of(0xFF7FFFFF) == 511
    assert PAE.slot_of(0xFF800000) is None
    assert PAE.slot_of(0xFF5FFFFF) is None
    assert PAE.address_of(511) == 0xFF7FF000
    assert Prediction(configure()).pkmap == PAE
    assert Prediction(configure(highmem=False, zone_names=("NORMAL", "MOVABLE"))).pkmap is None


class Pkmap(RuleBasedStateMachine):
    """The oracle has no counts, no hash, no array of slots: who uses what, and slots in order of trial."""

    SLOTS = 8

    def __init__(self) -> None:
        super().__init__()
        self.area = PkmapArea(0xFE000000, self.SLOTS, 0x163)
        self.model = PkmapModel(self.area)
        self.users: dict[int, list[str]] = {}
        """Page to the tasks that hold it; an empty list waits for a flush."""
        self.place: dict[int, int] = {}
        self.queue = [*range(1, self.SLOTS), 0]
        """Slots in the order in which they will be tried."""

    @rule(number=st.integers(0, 11), task=st.sampled_from("abc"))
    def kmap(self, number: int, task: str) -> None:
        if number not in self.place and not self.expect_place(number):
            with pytest.raises(MustSleep):
                self.model.kmap(page(number))
            return
        assert self.model.kmap(page(number)) == 0xFE000000 + 4096 * self.place[number]
        self.users[number].append(task)

    def expect_place(self, number: int) -> bool:
        """Where the oracle puts a new page: two rounds of the queue find a slot, or there is none."""
        for _ in range(2 * self.SLOTS):
            slot = self.queue.pop(0)
            self.queue.append(slot)
            if slot == 0:
                self.forget_unused()
            if slot not in self.place.values():
                self.place[number] = slot
                self.users[number] = []
                return True
            if slot == self.SLOTS - 1 and len([p for p in self.users.values() if p]) == self.SLOTS:
                return False
        raise AssertionError("two rounds always decide")

    @precondition(lambda self: any(self.users.values()))
    @rule(data=st.data())
    def kunmap(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(n for n, tasks in self.users.items() if tasks)))
        self.users[number].pop()
        assert self.model.kunmap(page(number)) is (not self.users[number])

    @rule()
    def change_page_attributes(self) -> None:
        waiting = any(not tasks for tasks in self.users.values())
        self.forget_unused()
        assert self.model.flush_all_zero() is waiting

    def forget_unused(self) -> None:
        for number in [n for n, tasks in self.users.items() if not tasks]:
            del self.users[number], self.place[number]

    @invariant()
    def they_agree(self) -> None:
        at = {slot: number for number, slot in self.place.items()}
        for slot in range(self.SLOTS):
            used = slot in at
            assert self.model.pages[slot] == (page(at[slot]) if used else None)
            assert self.model.counts[slot] == (1 + len(self.users[at[slot]]) if used else 0)
            assert legal_pair(self.model.counts[slot], self.model.pages[slot] is not None)
        assert (self.model.cursor + 1) % self.SLOTS == self.queue[0]
        hashed = {slot: bucket for bucket, slots in enumerate(self.model.buckets) for slot in slots}
        assert hashed == {slot: bucket_of(page(number)) for slot, number in at.items()}
        for number in range(12):
            expected = self.area.address_of(self.place[number]) if number in self.place else None
            assert self.model.page_address(page(number)) == expected


Pkmap.TestCase.settings = settings(max_examples=60, stateful_step_count=80, deadline=None)
TestPkmap = Pkmap.TestCase

"""Each invariant can fail: a sound state is damaged in one place, and exactly the right ones complain."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvmtools.model import eras
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.invariants import INVARIANTS, broken
from kvmtools.model.pkmap.page_address import IndexedAddresses, MemberAddresses, PoolAddresses
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import RUNNING, UNINTERRUPTIBLE, PkmapThreads


def page(number: int) -> int:
    return 0xC4000000 + 32 * number


LOWMEM = page(-1)


def sound(era: str = "6.1", slots: int = 4) -> PkmapThreads:
    """A has mapped page 1 twice and page 2; slot 3 waits for a flush with page 3."""
    table = PkmapTable(
        PkmapArea(0xFE000000, slots, 0x163), eras.named(era), nr_cpus=2, highmem=lambda p: p >= page(0)
    )
    threads = PkmapThreads(table, "AB")
    for number in (1, 1, 2, 3):
        threads.kmap("A", page(number))
        threads.finish("A")
    threads.kunmap("A", page(3))
    threads.finish("A")
    assert not broken(threads)
    return threads


def asleep() -> PkmapThreads:
    """A has mapped all of two slots, B sleeps."""
    table = PkmapTable(PkmapArea(0xFE000000, 2, 0x163), eras.named("6.1"))
    threads = PkmapThreads(table, "AB")
    for number in (1, 2):
        threads.kmap("A", page(number))
        threads.finish("A")
    threads.kmap("B", page(3))
    threads.finish("B")
    assert not broken(threads)
    return threads


def complaints(threads: PkmapThreads) -> set[str]:
    return {invariant.says for invariant in broken(threads)}


def negative(t: PkmapThreads) -> None:
    t.table.pkmap_count[0] = -1


def count_without_pte(t: PkmapThreads) -> None:
    t.table.pkmap_count[0] = 1


def pte_lost(t: PkmapThreads) -> None:
    t.table.ptes[3] = None


def lowmem_mapped(t: PkmapThreads) -> None:
    t.table.ptes[0] = LOWMEM


def mapped_twice(t: PkmapThreads) -> None:
    t.table.ptes[0] = page(2)


def two_half_way(t: PkmapThreads) -> None:
    t.table.pkmap_count[3] = 0
    t.table.ptes[0] = page(9)


def address_missing(t: PkmapThreads) -> None:
    t.table.addresses.set_page_address(page(2), None)


def address_left(t: PkmapThreads) -> None:
    t.table.addresses.set_page_address(page(9), 0xFE000000)


def two_addresses_left(t: PkmapThreads) -> None:
    t.table.addresses.set_page_address(page(9), 0xFE000000)
    t.table.addresses.set_page_address(page(2), None)


def address_twice(t: PkmapThreads) -> None:
    t.table.addresses.set_page_address(page(3), 0xFE003000)


def wrong_bucket(t: PkmapThreads) -> None:
    addresses = t.table.addresses
    assert isinstance(addresses, IndexedAddresses)
    bucket = addresses.page_slot(page(2))
    addresses.htable[bucket + 1] = addresses.htable.pop(bucket)


def entries_swapped(t: PkmapThreads) -> None:
    addresses = t.table.addresses
    assert isinstance(addresses, IndexedAddresses)
    buckets = addresses.htable
    one, two = addresses.page_slot(page(1)), addresses.page_slot(page(2))
    buckets[one], buckets[two] = buckets[two], buckets[one]
    first, second = buckets[one][0], buckets[two][0]
    addresses.maps[first], addresses.maps[second] = addresses.maps[second], addresses.maps[first]


def pool_entry_lost(t: PkmapThreads) -> None:
    addresses = t.table.addresses
    assert isinstance(addresses, PoolAddresses)
    addresses.pool.pop()


def pool_entry_in_use(t: PkmapThreads) -> None:
    addresses = t.table.addresses
    assert isinstance(addresses, PoolAddresses)
    addresses.pool.append(addresses.htable[addresses.page_slot(page(2))][0])


def member_wrong(t: PkmapThreads) -> None:
    addresses = t.table.addresses
    assert isinstance(addresses, MemberAddresses)
    addresses.virtual[page(2)] = 0xFE000000


def cursor_below(t: PkmapThreads) -> None:
    t.table.last_pkmap_nr = -1


def cursor_above(t: PkmapThreads) -> None:
    t.table.last_pkmap_nr = 4


def user_not_counted(t: PkmapThreads) -> None:
    t.threads["B"].maps.append(page(1))


def user_of_nothing(t: PkmapThreads) -> None:
    t.threads["B"].maps.append(page(9))


def user_forgotten(t: PkmapThreads) -> None:
    t.threads["A"].maps.remove(page(2))


def never_flushed(t: PkmapThreads) -> None:
    t.table.tlbs.cpus[1].add((2, page(8)))


def never_flushed_unused(t: PkmapThreads) -> None:
    t.table.tlbs.cpus[1].add((0, page(8)))


SETTLED = "a count is 0 exactly if the PTE is clear"
HALF = "at most one slot is half way, with a PTE and the count 0"
ADDRESSES = "the page addresses are those of the slots whose count is not 0"
ONE_ADDRESS = "at most one page address is missing or left over"
LENGTH = "there are as many page addresses as slots whose count is not 0"
USERS = "a count is one more than the page's users"
REACH = "through a slot in use no CPU can reach another page"
STALE = "no TLB holds what the page table does not"
POOL = "every entry is in the pool or in a bucket, once"
BUCKET = "every entry is in the bucket of its page"
SLEEP = "who sleeps finds every slot in use, or a wake-up comes"
VAIN = "who sleeps waits for an unmapped page, or a wake-up comes"
QUEUE = "the wait queue has exactly those who will leave it"


@pytest.mark.parametrize(
    ("era", "damage", "expected"),
    [
        ("6.1", negative, {"no count is negative", SETTLED, HALF, ADDRESSES, LENGTH, USERS}),
        ("6.1", count_without_pte, {SETTLED, HALF, ADDRESSES, LENGTH}),
        ("6.1", pte_lost, {SETTLED, HALF, ADDRESSES, ONE_ADDRESS, STALE}),
        ("6.1", lowmem_mapped, {"only highmem pages are mapped", SETTLED}),
        ("6.1", mapped_twice, {"no page is mapped twice", SETTLED}),
        ("6.1", two_half_way, {SETTLED, HALF, ADDRESSES, LENGTH}),
        ("6.1", address_missing, {ADDRESSES, LENGTH}),
        ("6.1", address_left, {ADDRESSES, LENGTH}),
        ("6.1", two_addresses_left, {ADDRESSES, ONE_ADDRESS}),
        ("6.1", address_twice, {LENGTH}),
        ("6.1", wrong_bucket, {BUCKET}),
        ("2.6.32", wrong_bucket, {BUCKET}),
        ("6.1", entries_swapped, {"an entry's index is its slot"}),
        ("2.6.32", entries_swapped, set()),
        ("2.6.32", pool_entry_lost, {POOL}),
        ("2.6.32", pool_entry_in_use, {POOL}),
        ("2.4", member_wrong, {ADDRESSES, ONE_ADDRESS}),
        ("6.1", cursor_below, {"the cursor is a slot"}),
        ("6.1", cursor_above, {"the cursor is a slot"}),
        ("6.1", user_not_counted, {USERS}),
        ("6.1", user_of_nothing, {USERS}),
        ("6.1", user_forgotten, {USERS}),
        ("6.1", never_flushed, {REACH, STALE}),
        ("6.1", never_flushed_unused, {STALE}),
    ],
)
def test_damage_is_noticed(era: str, damage: Callable[[PkmapThreads], None], expected: set[str]) -> None:
    threads = sound(era)
    damage(threads)
    assert complaints(threads) == expected


def missed(t: PkmapThreads) -> None:
    t.table.pkmap_count[0] = 1
    t.threads["A"].maps.remove(page(2))


def in_vain(t: PkmapThreads) -> None:
    t.threads["B"].page = page(1)


def not_queued(t: PkmapThreads) -> None:
    t.queue.clear()


def queued_twice(t: PkmapThreads) -> None:
    t.queue.append(t.threads["B"])


def queued_without_reason(t: PkmapThreads) -> None:
    t.queue.append(t.threads["A"])


def asleep_elsewhere(t: PkmapThreads) -> None:
    t.threads["A"].state, t.threads["A"].page = UNINTERRUPTIBLE, page(9)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (missed, {SLEEP}),
        (in_vain, {VAIN}),
        (not_queued, {QUEUE}),
        (queued_twice, {QUEUE}),
        (queued_without_reason, {QUEUE}),
        (asleep_elsewhere, {QUEUE}),
    ],
)
def test_a_lost_sleeper_is_noticed(damage: Callable[[PkmapThreads], None], expected: set[str]) -> None:
    threads = asleep()
    damage(threads)
    assert complaints(threads) == expected
    if expected != {QUEUE}:
        # It is no fault while somebody is about to wake everybody.
        threads.threads["A"].section = "wake_up"
        assert complaints(threads) == set()


def test_whoever_was_woken_may_still_be_queued() -> None:
    threads = asleep()
    threads.threads["B"].state = RUNNING
    assert complaints(threads) == set()


def test_while_the_lock_is_held_one_slot_may_be_half_way() -> None:
    threads = sound()
    threads.kmap("B", page(4))
    seen = []
    while threads.threads["B"].section:
        threads.step("B")
        settled = [invariant.says for invariant in INVARIANTS if not invariant.holds(threads)]
        assert not broken(threads)
        seen += [says for says in settled if says not in seen]
    # The cursor wraps: slot 3 is flushed before slot 0 is taken.
    assert seen == [SETTLED, ADDRESSES, LENGTH, STALE]


def test_every_damage_above_is_to_one_of_these() -> None:
    assert [(invariant.number, invariant.always) for invariant in INVARIANTS] == [
        ("1", True),
        ("2", False),
        ("2", True),
        ("4", True),
        ("5", True),
        ("6, 11", False),
        ("6, 11", True),
        ("7", False),
        ("8", True),
        ("9", True),
        ("10", True),
        ("12", True),
        ("13", False),
        ("13", False),
        ("13", False),
        ("14", True),
        ("T", True),
        ("T", False),
    ]

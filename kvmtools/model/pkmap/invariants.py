"""What must be true of pkmap at every instant, and what only while nobody holds ``kmap_lock``.

While the lock is held one slot may be half way: its PTE is set before its count when it is mapped, and its count is 0
before its PTE is clear when it is flushed.  Somebody who looks without the lock, such as a debugger, sees that.

The numbers are those of the sheet of invariants that the rules of ``kvmtools check`` were made from; "T" is about TLBs.
Missing are 3 and 15, about the bits of PTEs and the table that they are in, which the model does without; 14 is about
references to a page in use, and here whoever has mapped it stands for them.

Source: mm/highmem.c, 2.4.18 to 6.12; Gorman 2004, 10.1 (a slot whose count is 1 may still be in a TLB).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kvmtools.model.pkmap.page_address import IndexedAddresses, PoolAddresses
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import PkmapThreads


class Invariant(NamedTuple):
    """One sentence about the threads and their table."""

    number: str
    says: str
    holds: Callable[[PkmapThreads], bool]
    always: bool
    """Whether it holds even while ``kmap_lock`` is held."""


def broken(threads: PkmapThreads) -> list[Invariant]:
    """The invariants that do not hold and should at this instant."""
    return [
        invariant
        for invariant in INVARIANTS
        if (invariant.always or threads.owner is None) and not invariant.holds(threads)
    ]


def _half_way(table: PkmapTable) -> list[int]:
    """Slots with a PTE and no count, or the other way round."""
    return [nr for nr, count in enumerate(table.pkmap_count) if (count == 0) != (table.ptes[nr] is None)]


def _mapped(table: PkmapTable) -> set[tuple[int | None, int]]:
    """What the page addresses ought to say of the slots whose count is not 0."""
    return {
        (table.ptes[nr], table.area.address_of(nr)) for nr, count in enumerate(table.pkmap_count) if count
    }


def _one_half_way(threads: PkmapThreads) -> bool:
    table = threads.table
    slots = _half_way(table)
    return len(slots) <= 1 and all(table.pkmap_count[nr] == 0 for nr in slots)


def _pages(threads: PkmapThreads) -> list[int]:
    return [page for page in threads.table.ptes if page is not None]


def _buckets_right(threads: PkmapThreads) -> bool:
    addresses = threads.table.addresses
    if not isinstance(addresses, IndexedAddresses):
        return True
    return all(
        addresses.page_slot(addresses.maps[index].page) == bucket
        for bucket, indexes in addresses.htable.items()
        for index in indexes
    )


def _entries_indexed(threads: PkmapThreads) -> bool:
    addresses = threads.table.addresses
    if not isinstance(addresses, IndexedAddresses) or isinstance(addresses, PoolAddresses):
        return True
    return all(
        addresses.area.pkmap_nr(addresses.maps[index].virtual) == index
        for indexes in addresses.htable.values()
        for index in indexes
    )


def _entries_kept(threads: PkmapThreads) -> bool:
    addresses = threads.table.addresses
    if not isinstance(addresses, PoolAddresses):
        return True
    listed = [index for indexes in addresses.htable.values() for index in indexes]
    return sorted(addresses.pool + listed) == list(range(threads.table.area.slots))


def _users_counted(threads: PkmapThreads) -> bool:
    held = [page for thread in threads.threads.values() for page in thread.maps]
    table = threads.table
    users = {table.ptes[nr]: count - 1 for nr, count in enumerate(table.pkmap_count) if count}
    return {page: held.count(page) for page in held} == {
        page: number for page, number in users.items() if number
    }


def _wake_up_comes(threads: PkmapThreads) -> bool:
    return any(thread.section == "wake_up" for thread in threads.threads.values())


def _nobody_forgotten(threads: PkmapThreads) -> bool:
    return not threads.sleepers or min(threads.table.pkmap_count) >= 2 or _wake_up_comes(threads)


def _nobody_sleeps_in_vain(threads: PkmapThreads) -> bool:
    mapped = [thread for thread in threads.sleepers if threads.table.page_address(thread.page) is not None]
    return not mapped or _wake_up_comes(threads)


def _queue_right(threads: PkmapThreads) -> bool:
    waiting = [thread for thread in threads.threads.values() if thread.section == "remove_wait_queue"]
    return (
        set(threads.queue) == set(waiting)
        and len(threads.queue) == len(waiting)
        and all(thread in waiting for thread in threads.sleepers)
    )


def _used_slots_sure(threads: PkmapThreads) -> bool:
    table = threads.table
    used = [nr for nr, count in enumerate(table.pkmap_count) if count >= 2]
    return all(
        table.tlbs.seen(cpu, nr) <= {table.ptes[nr]} for cpu in range(len(table.tlbs.cpus)) for nr in used
    )


def _no_stale_translation(threads: PkmapThreads) -> bool:
    table = threads.table
    return all(table.ptes[slot] == page for cached in table.tlbs.cpus for slot, page in cached)


INVARIANTS = (
    Invariant("1", "no count is negative", lambda t: min(t.table.pkmap_count) >= 0, True),
    Invariant("2", "a count is 0 exactly if the PTE is clear", lambda t: not _half_way(t.table), False),
    Invariant("2", "at most one slot is half way, with a PTE and the count 0", _one_half_way, True),
    Invariant("4", "only highmem pages are mapped", lambda t: all(map(t.table.highmem, _pages(t))), True),
    Invariant("5", "no page is mapped twice", lambda t: len(_pages(t)) == len(set(_pages(t))), True),
    Invariant(
        "6, 11",
        "the page addresses are those of the slots whose count is not 0",
        lambda t: set(t.table.addresses.associations()) == _mapped(t.table),
        False,
    ),
    Invariant(
        "6, 11",
        "at most one page address is missing or left over",
        lambda t: len(set(t.table.addresses.associations()) ^ _mapped(t.table)) <= 1,
        True,
    ),
    Invariant(
        "7",
        "there are as many page addresses as slots whose count is not 0",
        lambda t: len(t.table.addresses.associations()) == len(_mapped(t.table)),
        False,
    ),
    Invariant("8", "every entry is in the bucket of its page", _buckets_right, True),
    Invariant("9", "an entry's index is its slot", _entries_indexed, True),
    Invariant("10", "every entry is in the pool or in a bucket, once", _entries_kept, True),
    Invariant("12", "the cursor is a slot", lambda t: 0 <= t.table.last_pkmap_nr < t.table.area.slots, True),
    Invariant("13", "who sleeps finds every slot in use, or a wake-up comes", _nobody_forgotten, False),
    Invariant(
        "13", "who sleeps waits for an unmapped page, or a wake-up comes", _nobody_sleeps_in_vain, False
    ),
    Invariant("13", "the wait queue has exactly those who will leave it", _queue_right, False),
    Invariant("14", "a count is one more than the page's users", _users_counted, True),
    Invariant("T", "through a slot in use no CPU can reach another page", _used_slots_sure, True),
    Invariant("T", "no TLB holds what the page table does not", _no_stale_translation, False),
)

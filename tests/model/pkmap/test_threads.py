"""Interleavings driven by hand: sleeping, waking, what is found after waking, and what a thread may not do."""

from __future__ import annotations

import pytest
from every_era import since

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pkmap.area import PkmapArea
from kvmtools.model.pkmap.table import PkmapTable
from kvmtools.model.pkmap.threads import DEAD, RUNNING, UNINTERRUPTIBLE, PkmapThreads

LOWMEM = 0xC1000010


def page(number: int) -> int:
    return 0xC4000000 + 32 * number


def machine(names: str = "ABC", *, slots: int = 2, era: str = "6.1", nr_cpus: int = 2) -> PkmapThreads:
    table = PkmapTable(
        PkmapArea(0xFE000000, slots, 0x163),
        eras.named(era),
        nr_cpus=nr_cpus,
        highmem=lambda p: p != LOWMEM,
        lowmem_address=lambda p: 0xC0000000 + p % 0x1000000,
    )
    return PkmapThreads(table, names)


def full(names: str = "ABC") -> PkmapThreads:
    """A has mapped pages 0 and 1, the only two slots; B wants page 2 and sleeps."""
    threads = machine(names)
    for number in (0, 1):
        threads.kmap("A", page(number))
        threads.finish("A")
    threads.kmap("B", page(2))
    assert threads.finish("B").state == UNINTERRUPTIBLE
    return threads


def unlocked() -> PkmapThreads:
    """As ``full``, but A gave page 0 back and has dropped the lock: its wake_up, which B needs, is yet to come."""
    threads = full()
    threads.kunmap("A", page(0))
    threads.run("A")
    return threads


def test_threads_are_spread_over_the_cpus() -> None:
    threads = machine("ABC").threads
    assert [(thread.name, thread.cpu) for thread in threads.values()] == [("A", 0), ("B", 1), ("C", 0)]
    assert {thread.state for thread in threads.values()} == {RUNNING} == {"TASK_RUNNING"}
    assert {(thread.section, thread.page, thread.address, *thread.maps) for thread in threads.values()} == {
        ("", 0, 0)
    }


def test_a_call_that_need_not_wait() -> None:
    threads = machine()
    threads.kmap("A", page(1))
    assert threads.threads["A"].section == "kmap_high"
    assert threads.runnable() == ["A"]
    assert threads.run("A") == "kmap_high"
    thread = threads.threads["A"]
    assert (thread.address, thread.maps, thread.section) == (0xFE001000, [page(1)], "")
    threads.kunmap("A", page(1))
    assert threads.run("A") == "kunmap_high"
    assert (thread.maps, thread.section) == ([], "")
    threads.kmap_flush_unused("A")
    assert threads.step("A") == "slot 1: count 0"
    assert threads.owner is threads.threads["A"]
    assert threads.run("A") == "kmap_flush_unused"
    assert (thread.section, threads.owner) == ("", None)
    assert threads.table.ptes == [None, None]
    assert threads.runnable() == []


def test_steps_stop_at_every_store_and_the_lock_keeps_others_out() -> None:
    threads = machine()
    threads.kmap("A", page(1))
    threads.kmap("B", page(1))
    assert threads.runnable() == ["A", "B"]
    assert threads.blocked("A") == ""
    assert threads.step("A") == "slot 1: set_pte"
    assert threads.owner is threads.threads["A"]
    assert threads.runnable() == ["A"]
    assert threads.blocked("B") == "B spins on kmap_lock, which A holds"
    with pytest.raises(UsageError, match="B spins on kmap_lock, which A holds"):
        threads.step("B")
    assert [threads.step("A") for _ in range(3)] == [
        "slot 1: count 1",
        "slot 1: set_page_address",
        "kmap_high",
    ]
    assert threads.owner is None
    assert threads.step("B") == "kmap_high"
    assert threads.table.pkmap_count == [0, 3]


def test_who_finds_every_slot_in_use_sleeps_without_the_lock() -> None:
    threads = full()
    sleeper = threads.threads["B"]
    assert (sleeper.state, sleeper.section, sleeper.maps) == ("TASK_UNINTERRUPTIBLE", "remove_wait_queue", [])
    assert threads.queue == [sleeper]
    assert threads.sleepers == [sleeper]
    assert threads.owner is None
    assert threads.blocked("B") == "B sleeps until a slot becomes unused"
    assert not threads.deadlocked


def test_the_wake_up_comes_after_the_lock_is_dropped() -> None:
    threads = full()
    threads.kunmap("A", page(0))
    assert threads.run("A") == "kunmap_high"
    assert threads.threads["A"].section == "wake_up"
    assert threads.owner is None
    assert threads.blocked("B") == "B sleeps until a slot becomes unused"
    assert threads.run("A") == "wake_up"
    assert threads.threads["A"].section == ""
    sleeper = threads.threads["B"]
    assert (sleeper.state, threads.queue) == (RUNNING, [sleeper])
    assert threads.run("B") == "remove_wait_queue"
    assert (threads.queue, sleeper.section) == ([], "kmap_high")
    assert threads.run("B") == "kmap_high"
    # Slot 1 had page 0: the cursor went round to 0, a flush came first, and 1 was free then.
    assert (sleeper.address, sleeper.maps) == (0xFE001000, [page(2)])
    assert threads.table.flushes == 1


def test_nobody_is_woken_while_the_slot_has_users_or_nobody_waits() -> None:
    threads = full("ABC")
    threads.kmap("C", page(0))
    threads.finish("C")
    threads.kunmap("C", page(0))
    threads.run("C")
    assert threads.threads["C"].section == ""
    alone = machine()
    alone.kmap("A", page(0))
    alone.finish("A")
    alone.kunmap("A", page(0))
    alone.run("A")
    assert alone.threads["A"].section == ""


def test_a_slot_that_was_taken_again_before_the_wake_up() -> None:
    """C takes the page up between A's unlock and A's wake_up: B wakes in vain and goes to sleep again."""
    threads = unlocked()
    threads.kmap("C", page(0))
    threads.run("C")
    threads.run("A")
    assert threads.finish("B").state == UNINTERRUPTIBLE
    assert threads.queue == [threads.threads["B"]]
    assert threads.table.pkmap_count == [2, 2]


def test_a_page_that_somebody_else_mapped_while_its_thread_slept() -> None:
    threads = unlocked()
    threads.kmap("C", page(2))
    threads.run("C")
    threads.run("A")
    cursor = threads.table.last_pkmap_nr
    sleeper = threads.finish("B")
    assert (sleeper.address, sleeper.maps) == (threads.threads["C"].address, [page(2)])
    assert threads.table.last_pkmap_nr == cursor
    assert sorted(threads.table.pkmap_count) == [2, 3]


def test_all_sleepers_wake_and_new_ones_join_at_the_head() -> None:
    threads = full("ABCD")
    threads.kmap("C", page(3))
    threads.finish("C")
    assert [thread.name for thread in threads.queue] == ["C", "B"]
    assert threads.sleepers == [threads.threads["B"], threads.threads["C"]]
    threads.kunmap("A", page(0))
    threads.finish("A")
    assert threads.sleepers == []
    assert threads.runnable() == ["B", "C"]
    assert threads.settle() == ["B", "C"]
    assert threads.threads["B"].maps == [page(2)]
    assert threads.threads["C"].state == UNINTERRUPTIBLE
    threads.kunmap("A", page(1))
    assert threads.settle() == ["A", "C"]
    assert threads.threads["C"].maps == [page(3)]
    assert threads.runnable() == []
    assert threads.settle() == []


def test_a_waker_does_not_free_the_lock_that_another_holds() -> None:
    threads = unlocked()
    threads.kmap("C", page(4))
    threads.step("C")
    assert threads.owner is threads.threads["C"]
    assert threads.run("A") == "wake_up"
    assert threads.owner is threads.threads["C"]
    assert threads.run("B") == "remove_wait_queue"
    assert threads.blocked("B") == "B spins on kmap_lock, which C holds"
    threads.settle()
    assert threads.threads["C"].maps == [page(4)]
    assert threads.threads["B"].state == UNINTERRUPTIBLE


def test_a_deadlock_is_reported() -> None:
    threads = full("AB")
    assert not threads.deadlocked
    threads.kmap("A", page(3))
    assert not threads.deadlocked
    threads.settle()
    assert threads.deadlocked
    assert threads.runnable() == []
    # A thread without any map cannot help, one in the middle of a call may.
    threads = full("ABC")
    threads.kmap("A", page(3))
    threads.settle()
    assert threads.deadlocked
    threads.kmap("C", page(0))
    assert not threads.deadlocked
    threads.settle()
    assert not threads.deadlocked
    assert not machine().deadlocked


def test_a_mapping_may_be_given_back_by_another_thread() -> None:
    threads = machine()
    for name in "AC":
        threads.kmap(name, page(1))
        threads.finish(name)
    threads.kunmap("C", page(1))
    threads.finish("C")
    assert [threads.threads[name].maps for name in "AC"] == [[page(1)], []]
    threads.kunmap("B", page(1))
    threads.finish("B")
    assert threads.threads["A"].maps == []
    assert threads.table.pkmap_count == [0, 1]


def test_lowmem_needs_no_slot_and_no_lock() -> None:
    threads = machine()
    threads.kmap("A", LOWMEM)
    assert (threads.threads["A"].section, threads.threads["A"].address) == ("", 0xC0000010)
    assert threads.threads["A"].maps == []
    threads.kunmap("A", LOWMEM)
    assert threads.threads["A"].section == ""
    assert threads.table.last_pkmap_nr == 0


def test_a_thread_that_hits_a_bug_dies_with_the_lock() -> None:
    threads = machine()
    threads.kunmap("A", page(1))
    with pytest.raises(KernelBug, match="not mapped"):
        threads.run("A")
    assert threads.threads["A"].state == DEAD == "TASK_DEAD"
    assert threads.blocked("A") == "A is dead: a BUG_ON in kunmap_high stopped it"
    threads.kmap("B", page(1))
    assert threads.blocked("B") == "B spins on kmap_lock, which A holds"
    assert threads.runnable() == []


@pytest.mark.parametrize(
    ("era", "forbidden"),
    # asm-i386/highmem.h of 2.4: BUG() in both; highmem_32.c: kmap has might_sleep(); then kunmap as well.
    [("2.4", {"kmap", "kunmap"}), *((era, {"kunmap"}) for era in since("2.6.18", "2.6.32"))]
    + [(era, set[str]()) for era in since("5.10")],
)
@pytest.mark.parametrize("where", [LOWMEM, page(1)], ids=["lowmem", "highmem"])
@pytest.mark.parametrize("call", ["kmap", "kunmap"])
def test_an_interrupt_must_not_sleep(call: str, where: int, era: str, forbidden: set[str]) -> None:
    threads = machine(era=era)
    threads.kmap("B", page(1))
    threads.finish("B")
    threads.interrupt("A")
    if call not in forbidden:
        getattr(threads, call)("A", where)
        assert threads.finish("A").state == RUNNING
        return
    why = {"kmap": "may have to sleep there", "kunmap": "would spin for ever if it interrupted whoever"}[call]
    with pytest.raises(
        KernelBug, match=rf"^BUG_ON\(in_interrupt\(\)\): {call} by A, an interrupt, which {why}"
    ):
        getattr(threads, call)("A", where)
    assert threads.blocked("A") == f"A is dead: a BUG_ON in {call} stopped it"
    assert threads.owner is None
    assert threads.table.pkmap_count == [0, 2]
    with pytest.raises(UsageError, match=f"^A is dead: a BUG_ON in {call} stopped it$"):
        threads.kmap("A", page(2))


@pytest.mark.parametrize("era", ["2.6.32", "6.1"])
def test_an_interrupt_that_would_sleep(era: str) -> None:
    """schedule_debug(): scheduling while atomic.  The lock was dropped before."""
    threads = machine(era=era)
    for number in (0, 1):
        threads.kmap("A", page(number))
        threads.finish("A")
    threads.interrupt("B")
    threads.kmap("B", page(2))
    with pytest.raises(
        KernelBug, match=r"^BUG_ON\(scheduling while atomic\): B, an interrupt, finds every slot in use$"
    ):
        threads.run("B")
    assert (threads.owner, threads.sleepers) == (None, [])
    assert threads.threads["B"].state == DEAD
    threads.kunmap("A", page(0))
    assert threads.finish("A").section == ""


def test_nobody_becomes_an_interrupt_in_the_middle_of_a_call() -> None:
    threads = machine()
    threads.kmap("A", page(1))
    with pytest.raises(UsageError, match="A is in kmap_high already"):
        threads.interrupt("A")
    assert not threads.threads["A"].in_interrupt


def test_what_a_thread_may_not_do() -> None:
    threads = machine()
    assert threads.blocked("A") == "A is in no call"
    with pytest.raises(UsageError, match="A is in no call"):
        threads.step("A")
    with pytest.raises(UsageError, match=r"there is no thread D \(there are A, B, C\)"):
        threads.blocked("D")
    threads.kmap("A", page(1))
    for call in (lambda: threads.kmap("A", page(2)), lambda: threads.kunmap("A", page(1))):
        with pytest.raises(
            UsageError, match=r"A is in kmap_high already \(let it run to the end of its call\)"
        ):
            call()
    with pytest.raises(UsageError, match="A is in kmap_high already"):
        threads.kmap_flush_unused("A")


def test_who_sleeps_can_begin_nothing() -> None:
    threads = full()
    for call in (threads.kmap, threads.kunmap):
        with pytest.raises(
            UsageError,
            match=r"^B sleeps for page 0xc4000040 \(another thread's kunmap wakes it; then let it run\)$",
        ):
            call("B", page(1))


@pytest.mark.parametrize("era", ["2.4", "2.6.18"])
def test_old_kernels_cannot_be_asked_to_flush(era: str) -> None:
    with pytest.raises(UsageError, match=f"^{era} has no kmap_flush_unused$"):
        machine(era=era).kmap_flush_unused("A")

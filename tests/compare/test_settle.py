"""Only what lasts is a finding: settle() against guests that change between two looks."""

from __future__ import annotations

from collections.abc import Callable

from breaks.buddy import nr_free_miscounted
from breaks.pkmap import pte_cleared
from recorded_guest import RecordedGuest

from kvmtools.compare.settle import ATTEMPTS, CONFIRMATIONS, settle
from kvmtools.findings import Status
from kvmtools.observe.observed import Observed


class Looks:
    """Observes a recorded guest again and again; before look n, ``events[n]`` happens to it."""

    def __init__(self, guest: RecordedGuest, events: dict[int, Callable[[], object]]) -> None:
        self.guest = guest
        self.events = events
        self.taken = 0
        self.slept: list[float] = []

    def __call__(self) -> Observed:
        self.events.get(self.taken, lambda: None)()
        self.taken += 1
        return self.guest.observe()


def restore(guest: RecordedGuest, address: int, size: int) -> Callable[[], None]:
    value = guest.read(address, size)
    return lambda: guest.write(address, value, size)


def test_a_clean_guest_is_looked_at_once(recorded: RecordedGuest) -> None:
    looks = Looks(recorded, {})
    result = settle(looks, sleep=looks.slept.append)
    assert (result.exit_code, result.samples, result.transients) == (0, 1, 0)
    assert looks.taken == 1
    assert looks.slept == []


def test_what_lasts_is_confirmed(recorded: RecordedGuest) -> None:
    looks = Looks(recorded, {0: lambda: pte_cleared(recorded)})
    result = settle(looks, sleep=looks.slept.append)
    assert [finding.rule for finding in result.findings] == ["pkmap.pte-matches-count"]
    assert (result.exit_code, result.samples, looks.taken) == (1, CONFIRMATIONS, CONFIRMATIONS)
    assert looks.slept == sorted(looks.slept)
    assert len(looks.slept) == CONFIRMATIONS - 1


def test_what_is_gone_on_the_second_look_was_a_moment(recorded: RecordedGuest) -> None:
    zone = recorded.healthy.populated_zones[-1]
    address = zone.address + recorded.vmlinux.offset("struct zone", "free_area[4].nr_free")
    back = restore(recorded, address, 4)
    looks = Looks(recorded, {0: lambda: nr_free_miscounted(recorded), 1: back})
    result = settle(looks, sleep=looks.slept.append)
    assert (result.exit_code, result.samples, result.transients) == (0, 2, 1)
    assert result.count(Status.DISCREPANCY) == 0


def test_what_is_wrong_otherwise_each_time_is_a_moment(recorded: RecordedGuest) -> None:
    """The count is off by one, then by two: no single fault lasted."""
    looks = Looks(recorded, dict.fromkeys(range(2), lambda: nr_free_miscounted(recorded)))
    result = settle(looks, sleep=looks.slept.append)
    assert (result.exit_code, result.samples, result.transients) == (0, 2, 2)


def test_a_fault_whose_numbers_move_is_one_fault(recorded: RecordedGuest) -> None:
    """NR_FREE_PAGES stays 5 too many while pages come and go between the guest's looks."""
    from breaks.buddy import free_pages_miscounted

    looks = Looks(recorded, {0: lambda: free_pages_miscounted(recorded)})
    (finding,) = settle(looks, sleep=looks.slept.append).findings
    assert finding.persists_as == "off by 5"
    assert finding.identity == ("buddy.free-pages", finding.subject, "off by 5")


def test_what_is_only_seen_under_its_lock_is_not_judged(recorded: RecordedGuest) -> None:
    """kmap_lock is held in every sample, so a slot that looks wrong may be half-way."""
    recorded.write(recorded.healthy.address("kmap_lock"), 1, 1)
    looks = Looks(recorded, {0: lambda: pte_cleared(recorded)})
    result = settle(looks, sleep=looks.slept.append)
    (outcome,) = [outcome for outcome in result.outcomes if outcome.rule == "pkmap.pte-matches-count"]
    assert outcome.status is Status.SKIPPED
    assert "kmap_lock" in outcome.reason
    assert [finding.rule for finding in outcome.unsettled] == ["pkmap.pte-matches-count"]
    assert (result.exit_code, result.samples) == (5, ATTEMPTS)


def test_a_lock_that_is_let_go_settles_it(recorded: RecordedGuest) -> None:
    lock = recorded.healthy.address("kmap_lock")
    recorded.write(lock, 1, 1)
    free = CONFIRMATIONS + 1
    looks = Looks(recorded, {0: lambda: pte_cleared(recorded), free: lambda: recorded.write(lock, 0, 1)})
    result = settle(looks, sleep=looks.slept.append)
    assert (result.exit_code, result.samples) == (1, free + 1)


def test_another_lock_excuses_nothing(recorded: RecordedGuest) -> None:
    zone = recorded.healthy.populated_zones[0]
    recorded.write(zone.address + recorded.vmlinux.offset("struct zone", "lock"), 1, 1)
    looks = Looks(recorded, {0: lambda: pte_cleared(recorded)})
    result = settle(looks, sleep=looks.slept.append)
    assert (result.exit_code, result.samples) == (1, CONFIRMATIONS)


def test_a_guest_that_stands_still_is_looked_at_once(recorded: RecordedGuest) -> None:
    looks = Looks(recorded, {0: lambda: pte_cleared(recorded)})
    result = settle(looks, runs=lambda: False, sleep=looks.slept.append)
    assert [finding.rule for finding in result.findings] == ["pkmap.pte-matches-count"]
    assert (result.exit_code, result.samples, looks.slept) == (1, 1, [])


def test_a_core_taken_under_a_lock_is_not_judged(recorded: RecordedGuest) -> None:
    """The CPU that held kmap_lock will never let it go: more looks show nothing new."""
    recorded.write(recorded.healthy.address("kmap_lock"), 1, 1)
    looks = Looks(recorded, {0: lambda: pte_cleared(recorded)})
    result = settle(looks, runs=lambda: False, sleep=looks.slept.append)
    (outcome,) = [outcome for outcome in result.outcomes if outcome.unsettled]
    assert (outcome.rule, outcome.status) == ("pkmap.pte-matches-count", Status.SKIPPED)
    assert (result.exit_code, result.samples, looks.slept) == (5, 1, [])

"""Looks at a guest, and what is seen to have happened between them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hostile_text import ALL, HOSTILE, harmless
from opened_kernel import session_of
from recorded_guest import load

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.watching import flushed, looks
from kvmtools.attach.monitor.pause import Pause
from kvmtools.errors import UsageError
from kvmtools.show.style import uncoloured
from kvmtools.show.watching import look_line, look_screen


def area(cursor: int, *counts: int) -> Any:
    return SimpleNamespace(counts=np.array(counts, np.int32), cursor=cursor)


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (area(3, 0, 1, 2), area(3, 0, 1, 2), False),
        (area(3, 0, 1, 2), area(5, 1, 2, 3), False),  # taken
        (area(3, 0, 1, 2), area(3, 0, 1, 1), False),  # given back, and not yet free
        (area(3, 0, 1, 2), area(3, 0, 0, 2), True),
        (area(3, 0, 1, 2), area(1, 0, 1, 2), True),  # round, and taken again
    ],
)
def test_a_flush_frees_slots_and_nothing_else_does(before: Any, after: Any, seen: bool) -> None:
    assert flushed(before, after) is seen


class Watched:
    """A recorded guest that seems to live: something happens to it before each look."""

    def __init__(self) -> None:
        self.guest = load("pae")
        session = session_of(self.guest, self.guest.kernel)
        session.target.monitor = object()  # type: ignore[assignment]
        session.pauses.append(Pause(was_running=True, milliseconds=1.5, held=True))
        self.kernel = OpenKernel(session)

    def count(self, slot: int, value: int) -> None:
        self.guest.write(self.guest.kernel.address("pkmap_count") + 4 * slot, value)


def test_what_changes_is_counted() -> None:
    watched = Watched()
    watched.count(3, 2)
    seen = looks(watched.kernel, 0.0, None)
    first = next(seen)
    watched.count(3, 1)
    second = next(seen)
    watched.count(3, 0)
    third, fourth = next(seen), next(seen)
    told = [(look.number, look.changed, look.flushes) for look in (first, second, third, fourth)]
    assert told == [(1, 0, 0), (2, 1, 0), (3, 1, 1), (4, 0, 1)]


def test_as_many_as_are_asked_for() -> None:
    assert [look.number for look in looks(Watched().kernel, 0.0, 2)] == [1, 2]


def test_a_core_does_not_change() -> None:
    guest = load("pae")
    with pytest.raises(UsageError, match="a core does not change"):
        next(looks(OpenKernel(session_of(guest, guest.kernel)), 1.0, 1))


def test_a_screen_and_a_line() -> None:
    look = next(looks(Watched().kernel, 0.0, 1))
    screen = uncoloured(look_screen(look, "a kernel"))
    assert "a kernel  look 1" in screen
    assert "pkmap at ff600000: 512 slots, " in screen
    assert "0 slots changed since the last look, flushes seen: 0" in screen
    for zone in look.zones:
        if zone.present:
            assert f"{zone.free_pages:,}" in screen
            assert f"{zone.name} {zone.free_pages:,}" in look_line(look)
    assert "\n" not in look_line(look)


@pytest.mark.parametrize("text", [*HOSTILE, ALL], ids=ascii)
def test_what_a_kernel_calls_itself_is_text(text: str) -> None:
    look = next(looks(Watched().kernel, 0.0, 1))
    assert harmless(uncoloured(look_screen(look, text)))


def test_zones_that_say_nonsense_are_drawn() -> None:
    watched = Watched()
    zone = watched.guest.observe().zones[1].address
    for member, value in (("managed_pages", 5), ("vm_stat", 0xFFFF_0000)):
        watched.guest.write(zone + watched.guest.vmlinux.offset("struct zone", member), value)
        assert "%" in look_screen(next(looks(watched.kernel, 0.0, 1)), "x")

"""Signals that end a program are taken, and given back, one holder inside another."""

from __future__ import annotations

import signal
import threading

import pytest

from kvmtools.attach.monitor.endings import Endings

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in NUMBERS]


def test_they_end_as_exceptions() -> None:
    before, told = handlers(), list[BaseException]()
    endings = Endings(told.append)
    endings.take()
    try:
        for number in NUMBERS:
            expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
            with pytest.raises(expected) as caught:
                signal.raise_signal(number)
            assert told.pop() is caught.value
            assert expected is KeyboardInterrupt or caught.value.args == (128 + number,)
    finally:
        endings.give_back()
    assert handlers() == before


@pytest.mark.parametrize("first", ["inner", "outer"])
def test_one_inside_another(first: str) -> None:
    """A guest is held (inner) by a monitor that has taken them (outer): the one that holds is told."""
    before, told = handlers(), list[str]()
    outer, inner = Endings(lambda _: told.append("outer")), Endings(lambda _: told.append("inner"))
    outer.take()
    inner.take()
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    assert told == ["inner"]
    if first == "outer":  # it ends before the other does: nothing of its own is put back
        outer.give_back()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        assert told == ["inner", "inner"]
    inner.give_back()
    outer.give_back()
    assert handlers() == before


def test_a_handler_of_the_program_s_own_stays() -> None:
    heard = []
    previous = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        endings = Endings()
        endings.take()
        signal.raise_signal(signal.SIGTERM)
        endings.give_back()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert heard == [signal.SIGTERM, signal.SIGTERM]


def test_another_thread_takes_none() -> None:
    before, seen = handlers(), list[object]()

    def take() -> None:
        Endings().take()
        seen.extend(handlers())

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert seen == before


def test_in_whatever_order_they_are_given_back() -> None:
    """A connection that is dead is closed within the pause that it began, and another is made."""
    before = handlers()
    dead, pause, other = Endings(), Endings(), Endings()
    dead.take()
    pause.take()
    dead.give_back()
    other.take()
    other.give_back()
    pause.give_back()
    assert handlers() == before

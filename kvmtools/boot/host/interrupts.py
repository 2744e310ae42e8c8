"""Ctrl-C, Ctrl-\\, SIGTERM and SIGHUP while something must not be left half done.

Two small contexts.  Inside :func:`ending_raises` a polite request to end becomes an exception, so that
``except`` and ``finally`` run.  Inside :func:`held` the same requests wait until the block is over: a child
process is never started without its pid being written down, and a clean-up is never itself interrupted.
Both do nothing outside the main thread, where Python delivers no signals.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_POLITE = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
ENDING = (signal.SIGINT, *_POLITE)


def _raise_exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def ending_raises() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGQUIT raise ``SystemExit(128 + number)``, unless the program handles them already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [s for s in _POLITE if signal.getsignal(s) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _raise_exit)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def held() -> Iterator[None]:
    """The signals in :data:`ENDING` that arrive inside take effect when the block is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    # An ignored signal stays ignored (nohup); a handler that C code installed cannot be put back.
    replaced = {n: h for n, h in before.items() if h is not None and h is not signal.SIG_IGN}
    for number in replaced:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
        # Also if the block failed: its exception is then the context of what a signal raises.
        _raise_each(arrived)


def _raise_each(numbers: list[int]) -> None:
    """Raise every one of the signals, also if the handler of an earlier one raises an exception."""
    if numbers:
        try:
            signal.raise_signal(numbers[0])
        finally:
            _raise_each(numbers[1:])

"""The signals that end a program, taken for as long as something must be put right before they do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers | int | None
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


_taken: list[Endings] = []
"""Who has them now, the last in front."""
_originals: dict[signal.Signals, _Handler] = {}
"""Whose they were before the first took them."""


class Endings:
    """Turns them into exceptions; handlers of the program's own, and ignored signals, are left alone.

    :param before: is called with the exception before it is raised
    """

    def __init__(self, before: Callable[[BaseException], None] | None = None) -> None:
        self._before = before

    def take(self) -> None:
        """From now on; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        if not _taken:
            handlers = {number: signal.getsignal(number) for number in _ENDINGS}
            _originals.update(
                (number, handler)
                for number, handler in handlers.items()
                if handler in (signal.SIG_DFL, signal.default_int_handler)
            )
        _taken.append(self)
        _hand_over()

    def give_back(self) -> None:
        """To whoever has them still, in whatever order they come, or had them before; may be called again at any
        moment."""
        if self in _taken:
            _taken.remove(self)
            _hand_over()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        ending: BaseException = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if self._before is not None:
            self._before(ending)
        raise ending


def _hand_over() -> None:
    if threading.current_thread() is threading.main_thread():
        for number, original in _originals.items():
            handler = signal.getsignal(number)
            if handler == original or _is_ours(handler):
                signal.signal(number, _taken[-1]._raise if _taken else original)
        if not _taken:
            _originals.clear()


@contextmanager
def postponed() -> Iterator[None]:
    """For what must be put right first: a signal that comes meanwhile is heard at the end of the ``with``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A blocked signal would be delivered to another thread, and heard here all the same.
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _ENDINGS}
    try:
        for number, handler in handlers.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, lambda number, _frame: came.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, handler)
        for which in came[:1]:
            signal.raise_signal(which)


def _is_ours(handler: _Handler) -> bool:
    return isinstance(getattr(handler, "__self__", None), Endings)

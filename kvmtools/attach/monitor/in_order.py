"""One thing after another, in a thread of its own.

A conversation must not be left in its middle: whoever is interrupted while he waits for an answer (Ctrl-C,
:mod:`pause`) may have to ask once more at once, to let the guest run.  So the talking is done here, and an interrupt
ends only the waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class InOrder:
    """Does what it is given, in that order; ``SimpleQueue`` may be used by a signal handler that interrupts its use."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], T], seconds: float) -> T:
        """What ``work`` returns, or raises.

        :raises TimeoutError: if it is not done within ``seconds``; it goes on
        """
        done: SimpleQueue[Future[T]] = SimpleQueue()

        def one() -> None:
            future: Future[T] = Future()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            done.put(future)

        self._work.put(one)
        try:
            return done.get(timeout=seconds).result()
        except Empty:
            raise TimeoutError from None

    def close(self, seconds: float) -> None:
        """End the thread when what it was given is done, but wait no longer than ``seconds``."""
        self._work.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

"""Holding the guest still while its memory is captured, and letting it go whatever happens.

The guest must run again after an exception, Ctrl-C, Ctrl-\\, SIGTERM and SIGHUP.  A signal may strike between any
two byte codes, also inside ``__enter__`` and ``__exit__``; so the handler itself resumes the guest *before*
it raises.  If it cannot, what it raises says so in a note (``__notes__``): an interrupt is not to be hidden by
another exception, and a guest that stays stopped is not to be kept secret.  Only SIGKILL cannot be handled: keep
the pause short.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from kvmtools.attach.monitor.endings import Endings
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, GuestVanished, KvmtoolsError

_SECOND_TRY = 1.0  # seconds


@dataclass
class Pause:
    """What one pause cost the guest.

    ``was_running`` tells whether it ran before; ``milliseconds`` how long we kept it from running, filled
    in at the end: 0 if it was paused already, or was not paused at all (``held`` False).
    """

    was_running: bool = False
    milliseconds: float = 0.0
    held: bool = False


class Pausing(Protocol):
    """A context manager that yields a :class:`Pause`."""

    def __enter__(self) -> Pause: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NoPause:
    """The guest is left as it is: it runs on, or there is none that could."""

    def __init__(self, *, was_running: bool) -> None:
        self._pause = Pause(was_running=was_running)

    def __enter__(self) -> Pause:
        return self._pause

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was held."""


class PausedGuest:
    """Stop the guest for the length of a ``with``; a guest that was paused before stays so.

    :raises GuestVanished: at either end, if its QEMU is gone
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._pause = Pause()
        self._stopped_at: float | None = None
        self._ending: BaseException | None = None
        self._endings = Endings(self._resume)

    def __enter__(self) -> Pause:
        self._endings.take()
        try:
            self._pause.was_running = self._monitor.running()
            if self._pause.was_running:
                self._stopped_at = time.monotonic()
                self._monitor.stop()
            self._pause.held = True
            self._raise_what_was_lost(None)
        except BaseException:
            self._end()
            raise
        return self._pause

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Exception):
            self._end()
        else:
            # An interrupted program that finds QEMU gone was still interrupted.
            self._end_and_note(error)
        self._raise_what_was_lost(error)

    def _raise_what_was_lost(self, error: BaseException | None) -> None:
        """Python drops an exception that a signal raises inside a destructor or the callback of a weak reference."""
        if self._ending is not None and error is not self._ending:
            raise self._ending

    def _end(self) -> None:
        """Let the guest run if we stopped it, then give the signals back.  May be called again at any
        moment."""
        try:
            if self._stopped_at is not None:
                _let_run(self._monitor)
                if self._stopped_at is not None:
                    self._pause.milliseconds = (time.monotonic() - self._stopped_at) * 1000
                self._stopped_at = None
        finally:
            self._endings.give_back()

    def _resume(self, ending: BaseException) -> None:
        # A second signal while the first one is resuming would come back in here: resuming twice does no
        # harm.
        self._ending = ending
        self._end_and_note(ending)

    def _end_and_note(self, ending: BaseException) -> None:
        """Let the guest run; if that fails, ``ending``, which goes on, says so."""
        try:
            self._end()
        except GuestVanished as error:
            note = str(error)
        except KvmtoolsError as error:
            by = f"{self._monitor.resumes} at {self._monitor.address}"
            note = f"the guest may still be stopped: {error}; let it run with {by}"
        else:
            return
        # Here twice, if a signal in the block has noted it already.
        if note not in getattr(ending, "__notes__", ()):
            ending.add_note(note)


def _let_run(monitor: Monitor) -> None:
    """``cont``; over a new connection if this one does not carry it: a proxy may have ended, and QEMU not.

    :raises AttachError: if both fail, with the reason of the first
    """
    try:
        monitor.cont()
    except AttachError as error:
        try:
            with monitor.again(_SECOND_TRY) as another:
                another.cont()
        except AttachError:
            raise error from None

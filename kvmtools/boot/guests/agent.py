"""Talking to our init inside the guest, over the unix socket of its serial line (protocol: ``qemu/README.md``)."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from kvmtools.boot.guests.agent_line import Line, Refused, stuck
from kvmtools.errors import AttachError, GuestVanished, UsageError

_LONGEST_REQUEST = 4000  # init's line buffer is 4,096 bytes
_GLANCE = 0.05  # seconds between two tries to connect
_CALL_AGAIN = 1.0  # seconds
_DRIVER_HINTS = {
    errno.EINVAL: (
        "alloc N, free, kmap I [TIMES], kunmap I [TIMES], cycle N, flush, mix N, local CPU DEPTH, status,"
        " fault NAME|list|undo"
    ),
    errno.ERANGE: (
        "alloc and cycle take 1 to 4096 pages, mix 1 to 419 slots (867 without PAE), kmap and kunmap an allocated page"
        " and as many users as it may gain or has, local an online CPU and a depth of 0 to 8"
    ),
    errno.EEXIST: "its pages are allocated already: give them back with `free` first",
    errno.EALREADY: "one fault at a time: `fault undo` first",
    errno.ENODATA: "no fault is planted; `fault list` says which there are",
    errno.EOPNOTSUPP: "this guest's kernel or processor has no NX, which that fault needs",
}
"""Refusals that are the request's own fault: qemu/driver."""


class Agent:
    """The init of a guest that kvmtools booted.

    In a ``with`` block one connection serves all requests; outside of one, each request has its own.  Only one
    client is served at a time: QEMU lets the next wait until the first hangs up.

    :param socket_path: the unix socket of the guest's agent line
    :param timeout: seconds without a byte after which the guest counts as stuck
    """

    def __init__(self, socket_path: Path, timeout: float = 30.0) -> None:
        self._path = socket_path
        self._timeout = timeout
        self._line: Line | None = None

    def __enter__(self) -> Self:
        self._line = self._connect(self._timeout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as init answers.

        :raises AttachError: if it does not within ``timeout`` seconds
        :raises GuestVanished: if QEMU ends while we wait
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                self._connect(max(left, 0.1)).close()
                return
            except GuestVanished:
                raise
            except AttachError:
                if time.monotonic() + _GLANCE >= deadline:
                    raise
            time.sleep(_GLANCE)

    def read(self, path: str, offset: int | None = None, length: int | None = None) -> bytes:
        """The bytes of a file in the guest; of ``length`` bytes from ``offset`` if both are given.

        A file of unknown size such as ``/proc/kpageflags`` is read to its end.

        :raises AttachError: if the guest cannot read it
        :raises GuestVanished: if QEMU hangs up in between
        """
        if (offset is None) != (length is None):
            raise UsageError("a part of a file needs an offset and a length")
        part = "" if offset is None else f" {offset} {length}"
        return self._ask(f"read {_one_word(path)}{part}")

    def text(self, path: str) -> str:
        """A file of the guest as text (ASCII, as everything under ``/proc`` and ``/sys``)."""
        return self.read(path).decode(errors="replace")

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory of the guest, without ``.`` and ``..``."""
        listed = self._ask(f"list {_one_word(directory)}").decode(errors="replace").splitlines()
        return sorted(name for name in listed if name not in {".", ".."})

    def write(self, path: str, text: str) -> None:
        """Write ``text`` (one line, without its end) to a file of the guest in one system call."""
        self._ask(f"write {_one_word(path)} {text}")

    def driver(self, command: str) -> str:
        """Have our driver obey (``alloc``, ``kmap``, ``mix``, ``fault``...: ``qemu/README.md``); returns what it says.

        :raises UsageError: if the command makes no sense: unknown, a number out of range, a second ``alloc``
        :raises AttachError: if it refuses for another reason
        """
        try:
            return self._ask(f"driver {command}").decode()
        except Refused as refusal:
            if refusal.errno == errno.ENOMEM:
                raise self._no_highmem(refusal) from None
            way_out = _DRIVER_HINTS.get(refusal.errno)
            if way_out is None:
                raise
            raise UsageError(refusal.message, hint=way_out) from None

    def _no_highmem(self, refusal: Refused) -> AttachError:
        """Why the driver got no page: it takes none but from highmem, which a small guest has not."""
        try:
            rows = [line.split() for line in self.text("/proc/meminfo").splitlines()]
        except Refused:
            return refusal
        kib = {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
        if not kib.get("HighTotal:"):
            return AttachError(
                f"{refusal.message}; the guest has no highmem, and its driver maps nothing else",
                hint="start one with more memory (--memory 2G), or with lowmem cut short (--append highmem=64M)",
            )
        return AttachError(
            f"{refusal.message}; {kib.get('HighFree:', 0):,} KiB of highmem are free in the guest",
            hint="ask for fewer pages, or `free` those that are allocated",
        )

    def workload(self, name: str, workers: int = 2, mebibytes: int = 8) -> None:
        """Start a memory workload in the background: ``anonymous``, ``fork``, ``tmpfs``, ``pipe``, ``mixed``, ``hold``.

        :param mebibytes: memory of each worker
        :raises AttachError: if there is no such workload, or one runs already
        """
        self._ask(f"workload {_one_word(name)} {workers} {mebibytes}")

    def workers(self) -> int:
        """How many workers of the workload are alive (the kernel may kill some when memory runs out)."""
        return int(self._ask("workload status"))

    def stop_workload(self) -> None:
        """Kill the workers without waiting for their end."""
        self._ask("workload stop")

    def quiesce(self) -> None:
        """Kill the workers, wait for their end, and have the kernel fold its per-CPU memory counters."""
        self._ask("workload quiesce")

    def version(self) -> dict[str, str]:
        """What answers: ``protocol``, ``kernel`` (its release) and ``driver`` (``ready``, or ``error ERRNO``)."""
        lines = self._ask("version").decode().splitlines()
        return {word: rest for word, _, rest in (line.partition(" ") for line in lines)}

    def poweroff(self) -> None:
        """Switch the guest off; returns once init agreed, QEMU ends a moment later."""
        self._ask("poweroff")

    def _ask(self, request: str) -> bytes:
        if "\n" in request or "\r" in request or len(request.encode()) > _LONGEST_REQUEST:
            raise UsageError(f"the guest's agent takes one line of at most {_LONGEST_REQUEST} bytes")
        with self._connected() as line:
            return line.ask(request)

    @contextmanager
    def _connected(self) -> Iterator[Line]:
        if self._line is not None:
            try:
                yield self._line
            except Refused:
                raise
            except BaseException:
                # What is left of the reply would be taken for the next one: the next request synchronises anew.
                self.close()
                raise
            return
        line = self._connect(self._timeout)
        try:
            yield line
        finally:
            line.close()

    def _connect(self, timeout: float) -> Line:
        """A line that answers, in step with us.

        Silence of a second is met by hanging up and calling again: the end of a reply to somebody who has just left
        may be dropped together with ours, and QEMU 7.2 unblocks a stalled virtio port when its client hangs up.

        :raises AttachError: if there is none within ``timeout`` seconds
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            line = Line(self._path, min(left, _CALL_AGAIN))
            try:
                line.synchronise()
            except TimeoutError:
                line.close()
            except BaseException:
                line.close()
                raise
            else:
                line.timeout(self._timeout)
                return line
        raise stuck(self._path)


def _one_word(word: str) -> str:
    """Blanks separate a request's words, and init knows no quotes."""
    if not word or " " in word:
        raise UsageError(f"the guest's agent takes no name with blanks: '{word}'")
    return word

"""Guest memory through QEMU itself: slow, but it works wherever a monitor does, above 4 GiB too.

Two ways.  ``pmemsave`` writes to a file; QEMU is lent one of ours that has no name (``memfd``), so nothing
needs to be cleaned up and QEMU needs no directory that it may write to.  Where no file can be lent (QEMU on
another host), the text of HMP ``xp`` is parsed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import ExitStack

from kvmtools.attach.memory.file_memory import fill
from kvmtools.attach.memory.physical import NO_RAM, Segment, SegmentedMemory
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, MemoryFault
from kvmtools.records import Range

_WORD = 8
_XP_WORDS = 512
_XP_LINE = re.compile(r"^([0-9a-f]+):((?: 0x[0-9a-f]{16})+)$", re.MULTILINE)


class XpMemory(SegmentedMemory):
    """:class:`PhysicalMemory` by HMP ``xp``, about 2 MB/s; segment offsets are guest-physical addresses."""

    name = "xp"

    def __init__(self, monitor: Monitor, ranges: Iterable[Range]) -> None:
        super().__init__(Segment(r.start, r.end, r.start) for r in ranges)
        self._monitor = monitor

    def close(self) -> None:
        """The monitor belongs to others."""

    def _copy(self, offset: int, buffer: memoryview) -> None:
        first = offset & -_WORD
        end = (offset + len(buffer) + _WORD - 1) & -_WORD
        words = bytearray()
        for start in range(first, end, _XP_WORDS * _WORD):
            words += self._words(start, min(_XP_WORDS, (end - start) // _WORD))
        buffer[:] = words[offset - first : offset - first + len(buffer)]

    def _words(self, address: int, count: int) -> bytes:
        answer = self._monitor.hmp(f"xp /{count}xg {address:#x}")
        words: list[int] = []
        for place, line in _XP_LINE.findall(answer):
            if int(place, 16) != address + len(words) * _WORD:
                raise AttachError(
                    f"xp was asked for {address:#x} and shows {int(place, 16):#x}: another question's answer",
                    hint="attach again",
                )
            words += (int(word, 16) for word in line.split())
        if len(words) != count:
            raise MemoryFault(address, NO_RAM if "Cannot access" in answer else f"xp answers {answer[:60]!r}")
        return b"".join(word.to_bytes(_WORD, "little") for word in words)


class PmemsaveMemory(SegmentedMemory):
    """:class:`PhysicalMemory` by ``pmemsave``, 1 ms and 250 MB/s; segment offsets are guest-physical
    addresses.

    :raises AttachError: if QEMU cannot be lent a file
    """

    name = "pmemsave"

    def __init__(self, monitor: Monitor, ranges: Iterable[Range]) -> None:
        super().__init__(Segment(r.start, r.end, r.start) for r in ranges)
        self._monitor = monitor
        self._descriptor = os.memfd_create("kvmtools-pmemsave", os.MFD_CLOEXEC)
        with ExitStack() as stack:
            stack.callback(os.close, self._descriptor)
            self._path = stack.enter_context(monitor.lent(self._descriptor))
            self._held = stack.pop_all()

    def close(self) -> None:
        self._held.close()

    def _copy(self, offset: int, buffer: memoryview) -> None:
        self._monitor.save_memory(offset, len(buffer), self._path)
        try:
            fill(self._descriptor, 0, buffer)
        except EOFError:
            raise AttachError(f"pmemsave wrote less than the {len(buffer):#x} bytes at {offset:#x}") from None

"""RAM that lies in a file: mapped where it has data, read where it has holes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kvmtools.attach.memory.file_data import FileData
from kvmtools.attach.memory.mapped_file import MappedFile
from kvmtools.attach.memory.physical import Segment, SegmentedMemory
from kvmtools.errors import AttachError
from kvmtools.records import Range


class FileMemory(SegmentedMemory):
    """Segment offsets are file offsets.  A view is the file's memory itself if no hole is in it, else a
    copy.

    :param descriptor: an open file, from now on ours to close
    :param ram: where the guest has RAM, if the file need not have all of it
    :raises OSError: if it cannot be mapped
    """

    def __init__(self, descriptor: int, segments: Iterable[Segment], ram: tuple[Range, ...] = ()) -> None:
        super().__init__(segments, ram)
        self._descriptor = descriptor
        end = max(s.offset + s.end - s.start for s in self.segments)
        self._mapping: MappedFile | None = MappedFile(descriptor, end)
        self._data = FileData(descriptor)

    def next_data(self, address: int) -> int:
        """The first address from ``address`` on, in the same segment, that is in no hole; else ``address``."""
        ((offset, _),) = self.segments.locate(address, 1)
        with suppress(OSError):
            data = self._data.next(offset)
            if data is not None and any(address + data - offset in r for r in self.ranges if address in r):
                return address + data - offset
        return address

    def close(self) -> None:
        if self._mapping is not None:
            self._mapping = None
            os.close(self._descriptor)

    def _copy(self, offset: int, buffer: memoryview) -> None:
        # Straight from the page cache: no page of ours is mapped, and a hole stays a hole.
        self._open_mapping()
        try:
            fill(self._descriptor, offset, buffer)
        except EOFError as error:
            raise AttachError(f"the file of this {self.name} was cut while in use: {error}") from None

    def _bytes(self, offset: int, size: int) -> bytes:
        self._open_mapping()
        data = os.pread(self._descriptor, size, offset)
        return data if len(data) == size else super()._bytes(offset, size)

    def _share(self, offset: int, size: int) -> memoryview:
        mapping = self._open_mapping()
        with suppress(OSError):  # a copy by pread is right whatever the file is
            if self._data.covers(offset, size):
                return mapping.view(offset, size)
        return super()._share(offset, size)

    def _open_mapping(self) -> MappedFile:
        if self._mapping is None:
            raise AttachError(f"this {self.name} is closed")
        return self._mapping


def opened_core(path: Path) -> int:
    """A descriptor of a core that lies in a file, or on a block device.

    :raises AttachError: if it cannot be opened, or is something else
    """
    try:
        # Opening a FIFO would wait for somebody who writes there.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise AttachError(f"cannot read the core {path}: {error.strerror}") from error
    with closed_on_failure(descriptor, f"the core {path}"):
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise AttachError(f"the core {path} is not a file")
    return descriptor


@contextmanager
def closed_on_failure(descriptor: int, what: str) -> Iterator[None]:
    """While ``descriptor`` is being made a memory: closed if that fails.

    :param what: the file, for the message
    :raises AttachError: for an ``OSError``
    """
    try:
        yield
    except OSError as error:
        os.close(descriptor)
        raise AttachError(f"cannot map {what}: {error.strerror}") from error
    except BaseException:
        os.close(descriptor)
        raise


def fill(descriptor: int, offset: int, buffer: memoryview) -> None:
    """Fill ``buffer`` from the file at ``offset``, in as many reads as it takes.

    :raises EOFError: if the file ends first
    """
    done = 0
    while done < len(buffer):
        got = os.preadv(descriptor, [buffer[done:]], offset + done)
        if got == 0:
            raise EOFError(f"nothing at {offset + done:#x}")
        done += got

"""The guest's RAM as a file that QEMU shares: ``-object memory-backend-file,share=on,...``.

The fastest way in: reads take nothing from QEMU, and views are the guest's memory itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from kvmtools.attach.mapping import Mapping
from kvmtools.attach.memory import Segment, SegmentedMemory
from kvmtools.errors import AttachError


class RamFile(SegmentedMemory):
    """:class:`PhysicalMemory` over a shared RAM file; segment offsets are file offsets.

    A view is the live memory if its pages exist, else (a hole in a sparse file) a copy: see :mod:`mapping`.

    :raises AttachError: if the file cannot be read or is smaller than the RAM it should hold
    """

    name = "ram-file"

    def __init__(self, path: Path, segments: Iterable[Segment]) -> None:
        super().__init__(segments)
        needed = max(s.offset + s.end - s.start for s in self.segments)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AttachError(f"cannot read the RAM file {path}: {error.strerror}") from error
        try:
            size = os.fstat(self._descriptor).st_size
            if size < needed:
                raise AttachError(
                    f"{path} holds {size:#x} bytes, this guest's RAM needs {needed:#x}",
                    hint="it is another guest's RAM file",
                )
            self._mapping: Mapping | None = Mapping(self._descriptor, needed)
        except OSError as error:
            os.close(self._descriptor)
            raise AttachError(f"cannot map the RAM file {path}: {error.strerror}") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        if self._mapping is not None:
            self._mapping = None
            os.close(self._descriptor)

    def _open_mapping(self) -> Mapping:
        if self._mapping is None:
            raise AttachError("this RAM file is closed")
        return self._mapping

    def _copy(self, offset: int, buffer: memoryview) -> None:
        # Straight from the page cache: no page of ours is mapped, and a hole stays a hole.
        self._open_mapping()
        fill(self._descriptor, offset, buffer)

    def _share(self, offset: int, size: int) -> memoryview:
        mapping = self._open_mapping()
        return (
            mapping.view(offset, size) if mapping.is_resident(offset, size) else super()._share(offset, size)
        )


def fill(descriptor: int, offset: int, buffer: memoryview) -> None:
    """Fill ``buffer`` from the file at ``offset``, in as many reads as it takes.

    :raises AttachError: if the file ends first
    """
    done = 0
    while done < len(buffer):
        got = os.preadv(descriptor, [buffer[done:]], offset + done)
        if got == 0:
            raise AttachError(f"the file ends at {offset + done:#x}: it was cut while in use")
        done += got

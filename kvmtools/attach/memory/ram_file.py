"""The guest's RAM as a file that QEMU shares: ``-object memory-backend-file,share=on,...``.

The fastest way in: reads take nothing from QEMU, and views are the guest's memory itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kvmtools.attach.memory.file_memory import FileMemory, closed_on_failure
from kvmtools.attach.memory.flat_view import Backed
from kvmtools.attach.memory.physical import Segment
from kvmtools.errors import AttachError


class RamFile(FileMemory):
    """:class:`PhysicalMemory` over a shared RAM file.

    :raises AttachError: if the file cannot be read, or is not the one block of RAM that ``backed`` describes
    """

    name = "ram-file"

    def __init__(self, path: Path, backed: Sequence[Backed]) -> None:
        segments = [Segment(b.start, b.end, b.offset) for b in backed]
        if len({b.block for b in backed}) > 1:
            raise AttachError("this guest's RAM is in several files")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AttachError(f"cannot read {path}: {error.strerror}") from error
        with closed_on_failure(descriptor, str(path)):
            needed = max(s.offset + s.end - s.start for s in segments)
            size = os.fstat(descriptor).st_size
            if size < needed:
                raise AttachError(f"{path} holds {size:#x} bytes, this guest's RAM needs {needed:#x}")
            super().__init__(descriptor, segments)

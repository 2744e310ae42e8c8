"""A guest's memory in a compressed dump, as makedumpfile and QEMU's ``kdump-*`` formats write it: by libkdumpfile.

Its Python bindings come with the distribution (Debian: ``python3-libkdumpfile``), not from PyPI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvmtools.attach.general_registers import GeneralRegisters
from kvmtools.attach.memory.flattened import SIGNATURE, rearranged
from kvmtools.attach.memory.physical import NOT_CAPTURED, Segment, SegmentedMemory
from kvmtools.attach.memory.system_ram import system_ram
from kvmtools.errors import AttachError, MemoryFault
from kvmtools.records import PAGE_SIZE, Registers

SIGNATURES = (b"KDUMP   ", b"DISKDUMP", SIGNATURE)
"""What such files begin with."""
_AS_ELF = 'or write it as ELF: QMP dump-guest-memory with "paging": false and no "format", makedumpfile -E'


class KdumpCore(SegmentedMemory):
    """:class:`PhysicalMemory` over a compressed dump; pages that makedumpfile left out were not captured.

    :raises AttachError: if libkdumpfile cannot read the file, or is not there
    """

    name = "kdump"
    recording = None

    def __init__(self, path: Path) -> None:
        library = _library(path)
        self._errors: type[Exception] = library.exceptions.KDumpBaseException
        self._no_data: type[Exception] = library.exceptions.NoDataException
        self._physical = library.KDUMP_MACHPHYSADDR
        self._path = path
        try:
            with path.open("rb") as file:
                flat = file.read(len(SIGNATURE)) == SIGNATURE
                self._file = rearranged(file, path) if flat else open(os.dup(file.fileno()), "rb")  # noqa: SIM115
        except OSError as error:
            raise AttachError(f"cannot read the core {path}: {error.strerror}") from error
        try:
            self._dump = library.kdumpfile(f"/proc/self/fd/{self._file.fileno()}")
            segments = list(system_ram(self._runs(self._dump.attr["memory.pagemap"])))
        except (self._errors, KeyError) as error:
            self._file.close()
            raise AttachError(f"libkdumpfile cannot read {path}: {error}", hint=_AS_ELF[3:]) from error
        super().__init__(segments)

    def registers(self) -> tuple[Registers, ...]:
        """None: libkdumpfile tells no control registers."""
        return ()

    def general_registers(self) -> tuple[GeneralRegisters, ...]:
        """None, either."""
        return ()

    def vmcoreinfo(self) -> str | None:
        """The text of the kernel's VMCOREINFO note; None if the dump has none."""
        with suppress(self._errors, KeyError):
            return bytes(self._dump.attr["linux.vmcoreinfo.raw"]).rstrip(b"\0").decode("ascii", "replace")
        return None

    def close(self) -> None:
        self._dump = None
        self._file.close()

    def _copy(self, offset: int, buffer: memoryview) -> None:
        if self._dump is None:
            raise AttachError(f"this {self.name} is closed")
        try:
            buffer[:] = self._dump.read(self._physical, offset, len(buffer))
        except self._no_data:
            raise MemoryFault(self._first_missing(offset, len(buffer)), NOT_CAPTURED) from None
        except self._errors as error:
            raise AttachError(f"libkdumpfile cannot read {self._path} at {offset:#x}: {error}") from error

    def _runs(self, pages: Any) -> Iterator[Segment]:
        """Stretches of pages whose bits are set."""
        with suppress(self._no_data):  # so it says that there are no more
            at = 0
            while True:
                start = pages.find_set(at)
                at = pages.find_clear(start)
                yield Segment(start * PAGE_SIZE, at * PAGE_SIZE, start * PAGE_SIZE)

    def _first_missing(self, address: int, size: int) -> int:
        for page in range(address & -PAGE_SIZE, address + size, PAGE_SIZE):
            try:
                self._dump.read(self._physical, max(page, address), 1)
            except self._no_data:
                return max(page, address)
        return address


def _library(path: Path) -> Any:
    try:
        import kdumpfile
        import kdumpfile.exceptions
    except ImportError as error:
        raise AttachError(
            f"{path} is a compressed dump, and this Python has no libkdumpfile: {error}",
            hint=f"install its Python bindings (Debian: python3-libkdumpfile), {_AS_ELF}",
        ) from None
    return kdumpfile

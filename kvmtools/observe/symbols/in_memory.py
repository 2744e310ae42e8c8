"""Which kernels lie in a guest's memory, by what they say of themselves: nobody has named a vmlinux.

A kernel's VMCOREINFO names its release and, since 5.9, its build id (kernel/crash_core.c, kernel/vmcore_info.c).
Without it there is the banner, ``linux_banner``, and not far from it in the image the section ``.notes`` with the build
id.  What looks like one need be none, and an earlier boot leaves the kernel that ran: whoever asks has to try them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from kvmtools.observe.symbols.running import SEARCH_END
from kvmtools.observe.symbols.vmlinux_file import Identity
from kvmtools.records import PAGE_SIZE, Range

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory

_CHUNK = 4 << 20
_IMAGE = 32 << 20
"""Bytes from one part of an image to another, at most; a distribution's has some 20 MiB of code and constants."""
_MOST = 16
"""Banners, and build ids near one, that are looked at: a guest may fill its memory with them."""
_NOTED = re.compile(
    rb"OSRELEASE=([!-~]{1,64})\n(?:[^\n=]{1,80}=[^\n]*\n){0,3}?BUILD-ID=((?:[0-9a-f]{2}){4,32})\n"
)
# The NUL tells it from lines of a log in the page cache.
_BANNER = re.compile(rb"Linux version (\d[^\s\0]*) [^\n\0]{8,250}\n(?=\0)")
# Elf32_Nhdr of type NT_GNU_BUILD_ID, a SHA-1.
_BUILD_ID = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0(.{20})", re.DOTALL)
_ELF = b"\x7fELF"


def kernels_in(memory: PhysicalMemory, vmcoreinfo: str | None) -> Iterator[Identity]:
    """The kernels that may lie in ``memory``, some of them twice; it is searched only as far as they are taken.

    :param vmcoreinfo: text of the VMCOREINFO note, if the target has one
    """
    noted = _NOTED.search((vmcoreinfo or "").encode("latin-1"))
    if noted:
        yield _noted(noted)
    left = _MOST
    for ram in memory.ranges:
        for start in range(ram.start, min(ram.end, SEARCH_END), _CHUNK):
            # They overlap by a page, so that nothing is cut in two.
            chunk = memory.read(start, min(_CHUNK + PAGE_SIZE, ram.end - start))
            for banner in islice(_BANNER.finditer(chunk), left):
                left -= 1
                yield from _around(memory, ram, start + banner.start(), banner)
            for note in islice(_NOTED.finditer(chunk), _MOST):
                yield _noted(note)


def _noted(note: re.Match[bytes]) -> Identity:
    return Identity(note[2].decode(), note[1].decode("latin-1"))


def _around(memory: PhysicalMemory, ram: Range, at: int, banner: re.Match[bytes]) -> Iterator[Identity]:
    """The build ids near a banner, the nearest first; one without, if there is none."""
    start, end = max(ram.start, at - _IMAGE), min(ram.end, at + _IMAGE)
    image = memory.read(start, end - start)
    notes = [note for note in _BUILD_ID.finditer(image) if not _is_in_a_file(image, start, note.start())]
    notes.sort(key=lambda note: abs(start + note.start() - at))
    release, text = banner[1].decode("latin-1"), banner[0].decode("latin-1").strip()
    for note in notes[:_MOST]:
        yield Identity(note[1].hex(), release, text)
    if not notes:
        yield Identity(None, release, text)


def _is_in_a_file(image: bytes, start: int, note: int) -> bool:
    """Whether a note stands in the first page of an ELF file: of the vDSO, or a program's in the page cache."""
    page = note - (start + note) % PAGE_SIZE
    return page >= 0 and image[page : page + len(_ELF)] == _ELF

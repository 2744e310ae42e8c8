"""A kernel of which nobody has the vmlinux yet: what its own VMCOREINFO tells, enough to follow its page tables.

Source of the note: ``arch_crash_save_vmcoreinfo``, arch/x86/kernel/crash_core_32.c, and kernel/crash_core.c, 6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvmtools.errors import MemoryFault, SymbolsError
from kvmtools.observe.architecture import ARCHITECTURES, I386, Architecture
from kvmtools.observe.paging.translate import translate
from kvmtools.records import PAGE_SIZE

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory

_SPLIT_STEP = 0x0800_0000
"""Every ``PAGE_OFFSET`` that arch/x86/Kconfig offers (VMSPLIT) is a multiple of it."""
_MARK = np.frombuffer(b"OSRELEASE=", np.uint8)
_CHUNK = 16 << 20
_LOWMEM_END = 0xC000_0000
"""No kernel has lowmem behind it, with whatever split."""


@dataclass(frozen=True)
class NotedKernel:
    """What the note says."""

    release: str
    build_id: str | None
    """In hex; kernels before 5.9 do not note it."""
    architecture: Architecture
    root: int
    """Physical address of ``swapper_pg_dir``."""
    page_offset: int


def noted_kernel(memory: PhysicalMemory, vmcoreinfo: str) -> NotedKernel:
    """The kernel of this note, found in ``memory``.

    :raises SymbolsError: if the note does not say where its page table is, or none is there
    """
    noted = dict(re.findall(r"^([^=\n]+)=(.*)$", vmcoreinfo, re.MULTILINE))
    architecture = _architecture(vmcoreinfo)
    symbol = f"SYMBOL({architecture.root})"
    try:
        virtual = int(noted[symbol], 16)
    except (KeyError, ValueError):
        raise SymbolsError(f"the guest's VMCOREINFO has no {symbol}") from None
    page_offset = _page_offset(memory, virtual, architecture)
    build_id = noted.get("BUILD-ID", "")
    return NotedKernel(
        release=noted.get("OSRELEASE", ""),
        build_id=build_id if re.fullmatch(r"(?:[0-9a-f]{2})+", build_id) else None,
        architecture=architecture,
        root=virtual - page_offset,
        page_offset=page_offset,
    )


def notes_in_memory(memory: PhysicalMemory) -> Iterator[str]:
    """Texts of VMCOREINFO that lie in RAM, of earlier boots too: each begins a page.

    Source: ``crash_save_vmcoreinfo_init``, kernel/crash_core.c, 6.1.
    """
    for ram in memory.ranges:
        for start in range(ram.start, min(ram.end, _LOWMEM_END), _CHUNK):
            size = min(_CHUNK, ram.end - start) // PAGE_SIZE * PAGE_SIZE
            pages = np.frombuffer(memory.view(start, size), np.uint8).reshape(-1, PAGE_SIZE)
            for index in np.flatnonzero((pages[:, : len(_MARK)] == _MARK).all(axis=1)):
                yield bytes(pages[index]).partition(b"\0")[0].decode("ascii", "replace")


def _architecture(vmcoreinfo: str) -> Architecture:
    lines = set(vmcoreinfo.splitlines())
    return next((row for row in ARCHITECTURES if row.vmcoreinfo and lines >= set(row.vmcoreinfo)), I386)


def _page_offset(memory: PhysicalMemory, virtual: int, architecture: Architecture) -> int:
    """``PAGE_OFFSET``, which no note says: the table lies in the linear map, so it maps itself there."""
    for page_offset in range(virtual - virtual % _SPLIT_STEP, 0, -_SPLIT_STEP):
        physical = virtual - page_offset
        try:
            if translate(memory, physical, virtual, architecture.paging).physical == physical:
                return page_offset
        except MemoryFault:
            continue
    raise SymbolsError(
        f"the kernel's page table is not where its VMCOREINFO says, at virtual address {virtual:#x}",
        hint="is the note of an earlier boot? is it another guest's memory?",
    )

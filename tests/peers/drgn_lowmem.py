"""drgn alone: it does not follow i386 page tables, so lowmem is given to it as one segment at PAGE_OFFSET."""

from __future__ import annotations

import drgn
import numpy as np

from kvmtools.attach.memory.elf_core import ElfCore
from peers.task import PAGE_OFFSET, READ, SCAN, given, tell


def main() -> None:
    task = given()
    core = ElfCore(task.core)
    program = drgn.Program(drgn.Platform(drgn.Architecture.I386))

    def low(_address: int, count: int, offset: int, _physical: bool) -> bytes:
        return core.read(offset, count)

    program.add_memory_segment(PAGE_OFFSET, (1 << 32) - PAGE_OFFSET, low, False)

    def scanned() -> int:
        raw = program.read(task.map_start, task.map_pages * task.page_size)
        flags = np.frombuffer(raw, "<u4")[:: task.page_size // 4]
        return int(np.count_nonzero(flags & task.reserved))

    def read() -> bytes:
        return bytes(program.read(task.read, task.read_size))

    tell({SCAN: scanned, READ: read})


main()

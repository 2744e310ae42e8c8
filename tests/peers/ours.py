"""kvmtools itself."""

from __future__ import annotations

import numpy as np

import kvmtools
from kvmtools.observe.pages.memmap import observe_memmap
from peers.task import PAGE_OFFSET, PG_RESERVED, READ, SCAN, TRANSLATE, WALK, given, tell


def main() -> None:
    task = given()
    with kvmtools.open(core=task.core, symbols=task.vmlinux) as opened:
        kernel, addresses = opened.session.kernel, np.array(task.addresses)

        def translated() -> list[int]:
            found: list[int] = opened.translate(addresses).tolist()
            return found

        def walked() -> int:
            leaves = opened.walk(PAGE_OFFSET).walk
            there = np.zeros(len(leaves), bool)
            for start, end in task.ram:
                there |= (leaves.physical >= start) & (leaves.physical < end)
            return int(leaves.size[there].sum())

        def scanned() -> int:
            return int(np.count_nonzero(observe_memmap(kernel).has_flag(PG_RESERVED)))

        def read() -> bytes:
            return opened.read(task.read, task.read_size)

        tell(
            {TRANSLATE: translated, WALK: walked, SCAN: scanned, READ: read},
            per={TRANSLATE: len(task.addresses)},
        )


main()

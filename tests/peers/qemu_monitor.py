"""QEMU's own monitor: ``gva2gpa``, ``info tlb``, ``memsave``, through the page table that CPU 0 uses."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from kvmtools.attach.monitor.qmp import QmpMonitor
from peers.task import PAGE_OFFSET, READ, TRANSLATE, WALK, given, tell

LEAF = re.compile(r"^([0-9a-f]+): ([0-9a-f]+) (\S+)", re.MULTILINE)


def main() -> None:
    task = given()
    large = 1 << (21 if task.pae else 22)
    with QmpMonitor(task.qmp) as monitor:

        def translated() -> list[int]:
            answers = (monitor.hmp(f"gva2gpa {address:#x}") for address in task.addresses)
            return [int(answer.split()[-1], 16) for answer in answers]

        def walked() -> int:
            leaves = LEAF.findall(monitor.hmp("info tlb"))
            kernels = [
                flags
                for address, physical, flags in leaves
                if int(address, 16) >= PAGE_OFFSET and task.is_ram(int(physical, 16))
            ]
            return sum(large if flags[2] == "P" else 4096 for flags in kernels)

        def read() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "bytes"
                monitor.command("memsave", val=task.read, size=task.read_size, filename=str(path))
                return path.read_bytes()

        tell({TRANSLATE: translated, WALK: walked, READ: read}, per={TRANSLATE: len(task.addresses)})


main()

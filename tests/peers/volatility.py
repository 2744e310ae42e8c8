"""volatility3: its layers for an ELF core and for i386 page tables (a virtual environment of its own)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from volatility3.framework import contexts
from volatility3.framework.layers import elf, intel, physical

from peers.task import PAGE_OFFSET, READ, SCAN, TRANSLATE, WALK, given, tell


def main() -> None:
    task = given()
    context = contexts.Context()
    context.config["file.location"] = Path(task.core).as_uri()
    context.add_layer(physical.FileLayer(context, "file", "file"))
    context.config["core.base_layer"] = "file"
    context.add_layer(elf.Elf64Layer(context, "core", "core"))
    context.config["kernel.memory_layer"] = "core"
    context.config["kernel.page_map_offset"] = task.root
    layer = (intel.IntelPAE if task.pae else intel.Intel)(context, "kernel", "kernel")
    context.add_layer(layer)

    def forget() -> None:
        """It remembers its answers, which is not the work that is measured; the tables that it has read stay."""
        type(layer)._translate_entry.cache_clear()
        type(layer).read.cache_clear()

    def translated() -> list[int]:
        forget()
        return [layer.translate(address)[0] for address in task.addresses]

    def walked() -> int:
        forget()
        pieces = layer.mapping(PAGE_OFFSET, (1 << 32) - PAGE_OFFSET, ignore_errors=True)
        return sum(length for _start, length, *_ in pieces)

    def scanned() -> int:
        forget()
        raw = layer.read(task.map_start, task.map_pages * task.page_size)
        flags = np.frombuffer(raw, "<u4")[:: task.page_size // 4]
        return int(np.count_nonzero(flags & task.reserved))

    def read() -> bytes:
        forget()
        return bytes(layer.read(task.read, task.read_size))

    tell(
        {TRANSLATE: translated, WALK: walked, SCAN: scanned, READ: read},
        per={TRANSLATE: len(task.addresses)},
    )


main()

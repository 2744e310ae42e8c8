"""A linked image, put into a guest's memory as a boot loader would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvmtools.attach.elf import PT_LOAD, ElfFile


def load_image(memory: Any, vmlinux: Path, slide: int = 0) -> None:
    """Write every segment to its physical address, moved by ``slide``."""
    with vmlinux.open("rb") as file:
        for segment in ElfFile(file.fileno()).segments:
            if segment.type == PT_LOAD:
                data = vmlinux.read_bytes()[segment.offset : segment.offset + segment.file_size]
                memory.write(segment.physical + slide, data)

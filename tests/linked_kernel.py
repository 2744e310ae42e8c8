"""A kernel of some lines, linked as a kernel is: it has a banner, notes, symbols and types."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from kvmtools.attach.elf import PT_LOAD, ElfFile

RELEASE = "6.1.0-test"
SOURCE = r"""
const char linux_banner[] = "Linux version 6.1.0-test (somebody@somewhere) %s\n";
void *high_memory = (void *)0xc8000000;
struct page { long flags[8]; } pages[3];
typedef struct { unsigned pte; } pte_t;
pte_t entry;
static int last_number;
int stop_here(void) { return ++last_number + linux_banner[0] + pages[1].flags[2]; }
"""
SCRIPT = """
ENTRY(stop_here)
PHDRS { load PT_LOAD; note PT_NOTE; }
SECTIONS {
    . = 0xc1000000;
    _stext = .;
    .text : AT(ADDR(.text) - 0xc0000000) { *(.text*) } :load
    .rodata : AT(ADDR(.rodata) - 0xc0000000) { *(.rodata*) *(.eh_frame) } :load
    .notes : AT(ADDR(.notes) - 0xc0000000) { __start_notes = .; *(.note.*) __stop_notes = .; } :load :note
    .data : AT(ADDR(.data) - 0xc0000000) { *(.data*) *(.bss*) *(.got*) } :load
}
"""

Link = Callable[..., Path]


def linker(compiled: Callable[..., Path], folder: Path) -> Link:
    """``link(word, *flags)``: a vmlinux whose banner ends in that word."""
    script = folder / "kernel.lds"
    script.write_text(SCRIPT)

    def link(word: str = "one", *flags: str) -> Path:
        more = flags or ("-Wl,--build-id",)
        return compiled(SOURCE % word, "-m32", "-g", *more, f"-Wl,-T,{script}")

    return link


def objcopy(source: Path, target: Path, *options: str) -> Path:
    """Another form of a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["objcopy", *options, source, target], check=True)
    return target


def halves(whole: Path, stripped: Path, debug: Path, *options: str) -> None:
    """What runs, with the name of what debugs it, and that."""
    objcopy(whole, debug, "--only-keep-debug", *options)
    objcopy(whole, stripped, "--strip-all", f"--add-gnu-debuglink={debug}")


def core(whole: Path, target: Path, *, slide: int, size: int = 24 << 20) -> Path:
    """What ``dump-guest-memory`` writes of a guest that runs it, as far as need be: one piece of RAM, no registers."""
    memory = bytearray(size)
    with whole.open("rb") as file:
        for segment in ElfFile(file.fileno()).segments:
            if segment.type == PT_LOAD:
                data = whole.read_bytes()[segment.offset : segment.offset + segment.file_size]
                memory[segment.physical + slide : segment.physical + slide + len(data)] = data
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIIIIIHHHHHH", 4, 3, 1, 0, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    load = struct.pack("<IIIIIIII", 1, 0x1000, 0, 0, size, size, 0, 0)
    target.write_bytes((ident + header + load).ljust(0x1000, b"\0") + memory)
    return target

"""What VMCOREINFO tells: where the page table is, whatever the split, and no table where there is none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.errors import SymbolsError
from kvmtools.observe.architecture import I386, I386_PAE
from kvmtools.observe.noted import noted_kernel, notes_in_memory

ROOT = 0x10_0000
SPLITS = [0xC000_0000, 0xB000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000]


def note(virtual: int, *more: str) -> str:
    lines = ["OSRELEASE=6.1.0", "PAGESIZE=4096", f"SYMBOL(swapper_pg_dir)={virtual:x}", *more]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page_offset", SPLITS, ids=hex)
def test_the_table_maps_itself(little_memory: Callable[..., Any], page_offset: int) -> None:
    memory = little_memory((0, 4 << 20))
    memory.write(ROOT + 4 * (page_offset >> 22), struct.pack("<I", 0x1E3))
    kernel = noted_kernel(memory, note(page_offset + ROOT, "BUILD-ID=00ff"))
    assert (kernel.page_offset, kernel.root) == (page_offset, ROOT)
    assert (kernel.release, kernel.build_id, kernel.architecture) == ("6.1.0", "00ff", I386)


def test_pae_is_noted(little_memory: Callable[..., Any]) -> None:
    memory = little_memory((0, 4 << 20))
    memory.write(ROOT + 8 * 3, struct.pack("<Q", 0x20_0001))
    memory.write(0x20_0000, struct.pack("<Q", 0x1E3))
    kernel = noted_kernel(memory, note(0xC000_0000 + ROOT, "CONFIG_X86_PAE=y"))
    assert (kernel.architecture, kernel.root, kernel.build_id) == (I386_PAE, ROOT, None)


@pytest.mark.parametrize("entry", [0, 0x1E3 + (4 << 20)], ids=["nothing", "another page"])
def test_a_table_that_is_not_there(little_memory: Callable[..., Any], entry: int) -> None:
    memory = little_memory((0, 4 << 20))
    memory.write(ROOT + 4 * (0xC000_0000 >> 22), struct.pack("<I", entry))
    with pytest.raises(SymbolsError, match=r"0xc0100000.*earlier boot"):
        noted_kernel(memory, note(0xC000_0000 + ROOT))


@pytest.mark.parametrize("text", ["", "SYMBOL(swapper_pg_dir)=\n", "SYMBOL(swapper_pg_dir)=xyz\n"])
def test_a_note_without_a_table(little_memory: Callable[..., Any], text: str) -> None:
    with pytest.raises(SymbolsError, match=r"no SYMBOL\(swapper_pg_dir\)"):
        noted_kernel(little_memory((0, 1 << 20)), text)


def test_notes_are_found_where_a_page_begins(little_memory: Callable[..., Any]) -> None:
    memory = little_memory((0, 1 << 20), (2 << 20, (2 << 20) + 0x3000), (1 << 32, (1 << 32) + 0x1000))
    old, new = note(0xC010_0000), note(0xC020_0000)
    memory.write(0x5000, old.encode())
    memory.write((2 << 20) + 0x2000, new.encode())
    memory.write(0x7010, b"OSRELEASE=of a copy behind a header")
    memory.write(1 << 32, b"OSRELEASE=where no kernel has lowmem")
    assert list(notes_in_memory(memory)) == [old, new]
    assert list(notes_in_memory(little_memory((0, 1 << 20)))) == []

from __future__ import annotations

import pytest

from kvmtools.attach.memory.flat_view import Backed, parse
from kvmtools.errors import AttachError

# As QEMU 7.2 writes it for `-machine pc -m 6G` with a booted firmware and a VGA card, shortened.
PC = """FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000cafff (prio 0, rom): pc.ram @00000000000c0000
  00000000000cb000-00000000000cdfff (prio 0, ram): pc.ram @00000000000cb000
  00000000000ce000-00000000000e7fff (prio 0, rom): pc.ram @00000000000ce000
  00000000000e8000-00000000000fffff (prio 0, rom): pc.bios @0000000000020000
  0000000000100000-00000000bfffffff (prio 0, ram): pc.ram @0000000000100000 KVM
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  00000000feb00000-00000000feb3ffff (prio 1, romd): some.flash
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-00000001bfffffff (prio 0, ram): pc.ram @00000000c0000000
  00000001c0000000-00000001cfffffff (prio 0, ram): /objects/dimm

FlatView #2
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000bfffffff (prio 0, ram): pc.ram
"""


def test_ram_is_what_the_cpus_see_as_ram() -> None:
    assert parse(PC, {"pc.ram", "dimm"}) == (
        Backed(0, 0xA0000, "pc.ram", 0),
        Backed(0xC0000, 0xE8000, "pc.ram", 0xC0000),
        Backed(0x100000, 0xC0000000, "pc.ram", 0x100000),
        Backed(0x100000000, 0x1C0000000, "pc.ram", 0xC0000000),
        Backed(0x1C0000000, 0x1D0000000, "/objects/dimm", 0),
    )


def test_the_block_at_zero_is_ram_even_if_no_backend_is_listed() -> None:
    assert {region.block for region in parse(PC, set())} == {"pc.ram"}


def test_neighbours_of_a_different_offset_stay_apart() -> None:
    text = PC.replace("pc.ram @00000000000cb000", "pc.ram @00000000000dd000")
    assert Backed(0xCB000, 0xCE000, "pc.ram", 0xDD000) in parse(text, {"pc.ram"})


@pytest.mark.parametrize(
    "text", ["", "unknown command: 'info mtree -f'\n", PC.replace('"memory"', '"other"')]
)
def test_a_map_without_ram_is_refused(text: str) -> None:
    with pytest.raises(AttachError, match="no RAM at guest-physical address 0"):
        parse(text, {"pc.ram"})

"""drgn on a small kernel: its variables by way of page tables, and no wrong bytes where drgn cannot reach."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drgn
import pytest
from images import load_image

from kvmtools.errors import MemoryFault, SymbolsError
from kvmtools.observe.kernel import Kernel, locate
from kvmtools.observe.paging.forms import NON_PAE
from kvmtools.observe.program import drgn_program, read_through
from kvmtools.observe.symbols.vmlinux import Vmlinux

SOURCE = r"""
const char linux_banner[] = "Linux version 6.1.0-test (somebody@somewhere)\n";
void *high_memory = (void *)0xc4000000;
typedef struct { unsigned pte; } pte_t;
pte_t swapper_pg_dir[1024] __attribute__((aligned(4096))) = { { 0 } };
struct list { struct list *next; int number; };
struct list last = { (void *)0, 3 };
struct list first = { &last, 1 };
struct list *far = (struct list *)0xf8001ff8;
char *stop_here(void) { return (char *)high_memory + linux_banner[0] + first.number + (int)far; }
"""

SCRIPT = """
ENTRY(stop_here)
PHDRS { load PT_LOAD; note PT_NOTE; }
SECTIONS {
    . = 0xc1000000;
    _stext = .;
    .text : AT(ADDR(.text) - 0xc0000000) { *(.text*) *(.rodata*) *(.eh_frame) } :load
    .notes : AT(ADDR(.notes) - 0xc0000000) { __start_notes = .; *(.note.*) __stop_notes = .; } :load :note
    .data : AT(ADDR(.data) - 0xc0000000) { *(.data*) *(.bss*) *(.got*) } :load
}
"""

SLIDE = 0x40_0000
VMALLOC = 0xF800_0000


@pytest.fixture(params=[False, True], ids=["low RAM", "RAM above 4 GiB"])
def kernel(
    request: pytest.FixtureRequest, compiled: Any, little_memory: Callable[..., Any], tmp_path: Path
) -> Kernel:
    """64 MiB mapped by 4 MiB pages, and two pages of vmalloc that lie the other way round."""
    script = tmp_path / "kernel.lds"
    script.write_text(SCRIPT)
    vmlinux = compiled(SOURCE, "-m32", "-g", "-Wl,--build-id", f"-Wl,-T,{script}")
    high = [(1 << 32, (1 << 32) + (1 << 20))] if request.param else []
    memory = little_memory((0, 64 << 20), *high)
    load_image(memory, vmlinux, SLIDE)
    found = locate(memory, Vmlinux.load(vmlinux))
    pgd = found.physical(found.address("swapper_pg_dir"))
    memory.write(pgd + 4 * 768, struct.pack("<16I", *(0x40_0000 * index | 0x1E3 for index in range(16))))
    memory.write(pgd + 4 * (VMALLOC >> 22), struct.pack("<I", 0x20_0063))
    memory.write(0x20_0000, struct.pack("<4I", 0x30_1163, 0x30_0163, 0, 0xFEE0_017B))
    memory.write(0x30_1FF8, b"12345678")
    memory.write(0x30_0000, b"abcdefgh")
    return found


@pytest.fixture
def program(kernel: Kernel) -> drgn.Program:
    return drgn_program(kernel.memory, kernel)


def test_variables_lie_where_kaslr_moved_them(program: drgn.Program, kernel: Kernel) -> None:
    assert program.symbol("first").address == kernel.vmlinux.symbol("first") + SLIDE
    assert program["first"].number.value_() == 1
    assert program["last"].number.value_() == 3
    assert program["linux_banner"].string_().startswith(b"Linux version 6.1.0-test")
    assert drgn.ProgramFlags.IS_LINUX_KERNEL in program.flags


def test_addresses_go_through_the_page_tables(program: drgn.Program) -> None:
    assert program.read(VMALLOC + 0xFF8, 16) == b"12345678abcdefgh"
    assert program.read_u32(VMALLOC + 0x1000) == int.from_bytes(b"abcd", "little")
    assert program["far"].value_() == VMALLOC + 0x1FF8


def test_what_is_not_mapped_is_a_fault_that_says_why(program: drgn.Program) -> None:
    for address, reason in ((VMALLOC + 0x2000, "not present in the pte"), (0, "not present in the pgd")):
        with pytest.raises(drgn.FaultError, match=reason) as caught:
            program.read(address, 1)
        assert caught.value.address == address
    with pytest.raises(drgn.FaultError, match="no RAM"):
        program.read(VMALLOC + 0x3000, 4)  # the local APIC: mapped, and no RAM


def test_physical_memory_is_right_or_refused(program: drgn.Program, kernel: Kernel) -> None:
    """drgn cuts physical addresses to 32 bits: with RAM above 4 GiB it would show other bytes."""
    if kernel.memory.ranges[-1].end > 1 << 32:
        with pytest.raises(drgn.FaultError):
            program.read(0x30_0000, 8, physical=True)
    else:
        assert program.read(0x30_0000, 8, physical=True) == b"abcdefgh"
        with pytest.raises(drgn.FaultError, match="no RAM"):
            program.read(0x7000_0000, 8, physical=True)


def test_another_page_table_shows_other_memory(kernel: Kernel) -> None:
    memory: Any = kernel.memory
    memory.write(0x50_0000, struct.pack("<2I", 0x60_0067, 0x40_00E7))
    memory.write(0x60_0000 + 4 * 0x48, struct.pack("<I", 0x30_0067))
    program = drgn_program(memory, kernel, cr3=0x50_0000)
    assert program.read(0x4_8000, 8) == b"abcdefgh"
    assert read_through(memory, 0x50_0000, 0x4_8004, 4, NON_PAE) == b"efgh"
    with pytest.raises(MemoryFault) as caught:
        read_through(memory, 0x50_0000, 0x4_8FFC, 8, NON_PAE)
    assert (caught.value.space, caught.value.address) == ("virtual", 0x4_9000)


def test_recorded_facts_have_no_vmlinux_to_give(recorded: Kernel) -> None:
    with pytest.raises(SymbolsError, match="vmlinux itself"):
        drgn_program(recorded.memory, recorded)

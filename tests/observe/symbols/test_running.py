"""Which of several images of one kernel runs: what an earlier boot left is not read for the guest's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from images import load_image

from kvmtools.errors import SymbolsError
from kvmtools.observe.kernel import locate
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Registers

SOURCE = r"""
const char linux_banner[] = "Linux version 6.1.0-test (somebody@somewhere)\n";
void *high_memory;
typedef struct { unsigned pte; } pte_t;
pte_t entry;
__attribute__((aligned(4096))) pte_t swapper_pg_dir[1024] = { 1 };
__attribute__((aligned(4096))) unsigned long long idt_table[256] = { 1 };
int startup_32(void) { return linux_banner[0] + swapper_pg_dir[1].pte + idt_table[1]; }
"""

SCRIPT = """
ENTRY(startup_32)
PHDRS { load PT_LOAD; note PT_NOTE; }
SECTIONS {
    . = 0xc1000000;
    _text = .;
    _stext = .;
    .text : AT(ADDR(.text) - 0xc0000000) { *(.text*) } :load
    .rodata : AT(ADDR(.rodata) - 0xc0000000) { *(.rodata*) *(.eh_frame) } :load
    .notes : AT(ADDR(.notes) - 0xc0000000) { __start_notes = .; *(.note.*) __stop_notes = .; } :load :note
    .data : AT(ADDR(.data) - 0xc0000000) { *(.data*) *(.bss*) *(.got*) } :load
    _end = .;
}
"""

DEAD, ALIVE = 0x20_0000, 0x160_0000
PROCESS = 0x40_0000
"""Where the page directory of some process lies."""
FIXMAP = 0xFFFB_E000
FIRMWARE = Registers(1, 0xFD09A, 0x11, 0, 0, 0, idt=0)


@dataclass
class Guest:
    """One kernel's memory, page tables of a process, and a CPU that runs it in the kernel."""

    memory: Any
    path: Path

    def __post_init__(self) -> None:
        self.vmlinux = Vmlinux.load(self.path)
        linear = [0x40_0000 * index | 0x1E3 for index in range(32)]
        self.memory.write(PROCESS + 4 * 768, struct.pack("<32I", *linear))

    def boot(self, slide: int) -> None:
        load_image(self.memory, self.path, slide)

    def physical(self, symbol: str, slide: int) -> int:
        return self.vmlinux.symbol(symbol) - 0xC000_0000 + slide

    def cpu(self, slide: int, **changes: int | None) -> Registers:
        idt = self.vmlinux.symbol("idt_table") + slide
        return replace(Registers(0, 0xC100_0000, 0x8005_0033, PROCESS, 0x90, 0x800, idt), **changes)

    def slide(self, *registers: Registers, note: str | None = None) -> int:
        return locate(self.memory, self.vmlinux, note, registers).slide


@pytest.fixture
def guest(compiled: Callable[..., Path], little_memory: Callable[..., Any], tmp_path: Path) -> Guest:
    script = tmp_path / "kernel.lds"
    script.write_text(SCRIPT)
    path = compiled(SOURCE, "-m32", "-g", "-O1", "-Wl,--build-id", f"-Wl,-T,{script}")
    return Guest(little_memory((0, 0xA0000), (0x100000, 128 << 20)), path)


@pytest.fixture
def twice(guest: Guest) -> Guest:
    """A guest that was rebooted: what ran before lies below what runs."""
    guest.boot(DEAD)
    guest.boot(ALIVE)
    return guest


@pytest.mark.parametrize("slide", [DEAD, ALIVE])
def test_the_image_whose_idt_the_cpu_uses(twice: Guest, slide: int) -> None:
    assert twice.slide(twice.cpu(slide)) == slide
    assert twice.slide(twice.cpu(slide), FIRMWARE) == slide
    assert twice.slide(twice.cpu(slide), twice.cpu(slide, idt=0x1000)) == slide


@pytest.mark.parametrize("slide", [DEAD, ALIVE])
def test_the_idt_may_be_seen_through_any_page(twice: Guest, slide: int) -> None:
    """The CPU entry area shows it, where the linear map does not say whose it is."""
    table = 0x50_0000
    twice.memory.write(PROCESS + 4 * (FIXMAP >> 22), struct.pack("<I", table | 0x63))
    entry = twice.physical("idt_table", slide) | 0x161
    twice.memory.write(table + 4 * (FIXMAP >> 12 & 1023), struct.pack("<I", entry))
    assert twice.slide(twice.cpu(slide, idt=FIXMAP)) == slide


@pytest.mark.parametrize("slide", [DEAD, ALIVE])
def test_the_image_whose_page_tables_the_cpu_uses(twice: Guest, slide: int) -> None:
    assert twice.slide(twice.cpu(0, cr3=twice.physical("swapper_pg_dir", slide), idt=None)) == slide


@pytest.mark.parametrize("slide", [DEAD, ALIVE])
def test_the_image_that_is_being_entered(twice: Guest, slide: int) -> None:
    """``startup_32`` runs at its physical address, with whatever tables it finds."""
    entering = Registers(0, twice.physical("startup_32", slide), 0x11, 0, 0, 0, idt=0)
    assert twice.slide(entering, FIRMWARE) == slide


def test_a_note_does_not_decide(twice: Guest) -> None:
    stale = f"SYMBOL(_stext)={0xC100_0000 + DEAD:x}\n"
    assert twice.slide(twice.cpu(ALIVE), note=stale) == ALIVE


def test_remains_at_a_coarser_place_do_not_hide_the_kernel(guest: Guest) -> None:
    guest.boot(DEAD)
    guest.boot(0x160_2000)
    assert guest.slide(guest.cpu(0x160_2000)) == 0x160_2000


@pytest.mark.parametrize(
    "changes", [{"idt": None}, {"idt": 0xF000_0000}], ids=["no IDT known", "IDT not mapped"]
)
def test_what_no_register_tells_is_refused_with_both_named(
    twice: Guest, changes: dict[str, int | None]
) -> None:
    for registers in ((), (twice.cpu(ALIVE, **changes),)):
        with pytest.raises(SymbolsError, match="2 times, at KASLR slides 0x200000 and 0x1600000") as caught:
            twice.slide(*registers)
        assert "nothing tells which of them runs" in caught.value.message
        assert "earlier boot" in caught.value.hint


def test_two_kernels_that_both_run_are_refused(twice: Guest) -> None:
    """A crash kernel leaves the other CPUs where they stopped."""
    with pytest.raises(SymbolsError, match="different CPUs run them"):
        twice.slide(twice.cpu(DEAD), twice.cpu(ALIVE, cpu=1))


@pytest.mark.parametrize(
    "changes",
    [{"cr0": 0x11, "eip": 0xFD09A}, {"idt": 0xC000_1000}, {"efer": 0x500}],
    ids=["firmware", "another kernel", "a 64-bit kernel"],
)
def test_a_kernel_that_no_cpu_runs_is_not_the_guests(guest: Guest, changes: dict[str, int | None]) -> None:
    guest.boot(DEAD)
    with pytest.raises(
        SymbolsError, match=r"lies in memory at KASLR slide 0x200000, but no CPU runs it"
    ) as caught:
        guest.slide(guest.cpu(DEAD, **changes), FIRMWARE)
    assert "earlier boot" in caught.value.hint


@pytest.mark.parametrize(
    "changes", [{"idt": None}, {"idt": 0xF000_0000}], ids=["no IDT known", "IDT not mapped"]
)
def test_the_only_kernel_needs_no_proof(guest: Guest, changes: dict[str, int | None]) -> None:
    """A core may hold no registers, and a damaged guest's tables may lead nowhere."""
    guest.boot(DEAD)
    assert guest.slide() == DEAD
    assert guest.slide(guest.cpu(DEAD, **changes)) == DEAD


def test_a_vmlinux_that_does_not_say_where_the_idt_is_proves_nothing(guest: Guest) -> None:
    guest.boot(DEAD)
    guest.slide()
    facts = guest.vmlinux.to_json()
    absent = {f"symbol {name}": None for name in ("idt_table", "trace_idt_table", "debug_idt_table")}
    known = {f"symbol {name}": guest.vmlinux.symbol(name) for name in ("swapper_pg_dir", "high_memory")}
    size = {"sizeof pte_t": 4, "symbol initial_page_table": None}
    guest.vmlinux = Vmlinux.from_json({**facts, "answers": {**facts["answers"], **known, **size, **absent}})
    assert guest.slide(Registers(0, 0xC100_0000, 0x8005_0033, PROCESS, 0x90, 0x800, 0xC000_1000)) == DEAD


def test_where_every_cpu_agrees_nothing_more_is_searched(guest: Guest) -> None:
    guest.boot(DEAD)
    looked, view = [], guest.memory.view

    def counting(address: int, size: int) -> memoryview:
        looked.append(address)
        seen: memoryview = view(address, size)
        return seen

    guest.memory.view = counting
    assert guest.slide(guest.cpu(DEAD), FIRMWARE) == DEAD
    assert max(looked) <= guest.physical("high_memory", DEAD)


def test_a_build_id_without_its_image_is_said_so(guest: Guest) -> None:
    note = f"OSRELEASE=6.1.0-test\nBUILD-ID={guest.vmlinux.build_id}\n"
    with pytest.raises(
        SymbolsError, match=r"has this vmlinux's build id, .* but its image is nowhere in memory"
    ):
        guest.slide(note=note)

"""Whether a CPU runs on a kernel image that was found in memory: a reboot leaves the old one where it was.

The CPU itself says: where its IDT lies (``idt_table``, seen through the CPU entry area, a fixmap slot or the linear
map, by whoever's page tables), what CR3 holds, and while paging is off where it executes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmtools.errors import MemoryFault
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Range, Registers

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory

#: No i386 image can lie higher than its linear map reaches.
SEARCH_END = 0x4000_0000

# Intel SDM vol. 3A, 2.2.1.
EFER_LMA = 1 << 10

# The others took turns with it where interrupts were traced, 3.10 to 4.13 (arch/x86/kernel/tracepoint.c).
_IDTS = ("idt_table", "trace_idt_table", "debug_idt_table")


def image_in_memory(vmlinux: Vmlinux, slide: int) -> Range:
    """The physical addresses of the image at ``slide``; none if the vmlinux does not say where it ends."""
    if not (vmlinux.has_symbol("_text") and vmlinux.has_symbol("_end")):
        return Range(0, 0)
    moved = slide - vmlinux.page_offset
    return Range(vmlinux.symbol("_text") + moved, vmlinux.symbol("_end") + moved)


def runs_on(memory: PhysicalMemory, vmlinux: Vmlinux, slide: int, cpu: Registers) -> bool | None:
    """Whether ``cpu`` runs on the image at ``slide``; ``None`` if its registers and tables do not tell."""

    def places(symbols: tuple[str, ...]) -> list[int]:
        return [
            vmlinux.symbol(name) + slide - vmlinux.page_offset for name in symbols if vmlinux.has_symbol(name)
        ]

    if cpu.efer is not None and cpu.efer & EFER_LMA:
        return False
    if not cpu.paged:
        return cpu.eip in image_in_memory(vmlinux, slide)
    built_for = vmlinux.architecture
    if cpu.cr3 & built_for.paging.cr3 in places((built_for.root, *built_for.boot_roots)):
        return True
    idts = places(_IDTS)
    if cpu.idt is None or not idts:
        return None
    try:
        idt = translate(memory, cpu.cr3, cpu.idt, built_for.paging).physical
    except MemoryFault:
        return None
    return None if idt is None else idt in idts

"""What a CPU executes whose paging is off: its EIP is a physical address, in no region of the kernel's space."""

from __future__ import annotations

from kvmtools.observe.kernel import Kernel
from kvmtools.observe.symbols.running import image_in_memory
from kvmtools.records import Range, Registers

# Intel SDM vol. 3A, 2.5.
_CR0_PE = 1 << 0

_FIRMWARE = (Range(0xC_0000, 0x10_0000), Range(0xFFC0_0000, 4 << 30))
"""A PC's option ROMs and BIOS, and its flash below 4 GiB: QEMU hw/i386/pc.c, x86.c."""


def unpaged_place(kernel: Kernel, cpu: Registers) -> str:
    """Where it is, for a person; whoever is not in the kernel's image has not been started by this kernel."""
    if not cpu.cr0 & _CR0_PE:
        return "real mode, not started"
    if cpu.eip in image_in_memory(kernel.vmlinux, kernel.slide):
        return "kernel image, paging not yet on"
    if any(cpu.eip in each for each in _FIRMWARE):
        return "firmware, not started"
    return "paging off, not started"

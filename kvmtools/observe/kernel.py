"""One kernel in one memory: symbols moved by the KASLR slide, and plain reads of its linear address space.

Everything here goes through the linear map, ``physical = virtual - PAGE_OFFSET`` (``__pa``,
arch/x86/include/asm/ page.h); the page tables are :mod:`kvmtools.observe.paging.walk`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import Absent, MemoryFault, SymbolsError
from kvmtools.observe.architecture import Architecture
from kvmtools.observe.paging.forms import Form
from kvmtools.observe.symbols.running import EFER_LMA
from kvmtools.observe.symbols.slide import demand_paging, find_slide
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import PAGE_SHIFT, Registers

if TYPE_CHECKING:
    from pathlib import Path

    from kvmtools.attach.memory.physical import PhysicalMemory


@dataclass(frozen=True)
class Kernel:
    """A kernel that was found in ``memory``, see :func:`locate`.

    ``slide`` is what KASLR added to every link address; on i386 the virtual and the physical slide are the
    same.
    ``lowmem_end`` is the virtual address behind the linear map (``high_memory``; before the kernel has set
    it, the end of the address space).
    """

    vmlinux: Vmlinux
    slide: int
    memory: PhysicalMemory
    page_offset: int
    lowmem_end: int
    seen_paging: Form | None = None
    """The form of page tables that its processors see, if it is known (:mod:`kvmtools.observe.processor`)."""
    seen_banner: bytes | None = None
    """What it says in memory, if the vmlinux is only the half that debugs it."""

    @property
    def architecture(self) -> Architecture:
        """What it was built for."""
        return self.vmlinux.architecture

    @property
    def paging(self) -> Form:
        """The form of its page tables."""
        return self.seen_paging or self.architecture.paging

    @property
    def root(self) -> int:
        """Physical address of its own top table (``swapper_pg_dir``)."""
        return self.physical(self.address(self.architecture.root))

    @property
    def banner(self) -> bytes:
        """``linux_banner`` (init/version.c), without its NUL: which build this is.

        :raises Absent: if there is no such symbol
        """
        return self.vmlinux.banner or self.seen_banner or b""

    def with_memory(self, memory: PhysicalMemory) -> Kernel:
        """The same kernel, read from another memory (a snapshot)."""
        return replace(self, memory=memory)

    def address(self, symbol: str) -> int:
        """Virtual address of ``symbol`` in this guest.

        :raises SymbolsError: if there is no such symbol
        """
        return self.vmlinux.symbol(symbol) + self.slide

    def physical(self, virtual: int) -> int:
        """Physical address behind a linear-map address.

        :raises MemoryFault: if the address is outside the linear map
        """
        if not self.page_offset <= virtual < self.lowmem_end:
            raise MemoryFault(virtual, "is not in the linear map", space="virtual")
        return virtual - self.page_offset

    def virtual(self, physical: int) -> int:
        """Linear-map address of a physical one.

        :raises MemoryFault: if the linear map does not reach there
        """
        virtual = physical + self.page_offset
        if not self.page_offset <= virtual < self.lowmem_end:
            raise MemoryFault(physical, "is not covered by the linear map")
        return virtual

    def view(self, virtual: int, size: int) -> memoryview:
        """``size`` bytes at a linear-map address, without a copy where the memory allows it.

        :raises MemoryFault: if they are not in the linear map, or not RAM
        """
        return self.memory.view(self.physical(virtual), size)

    def read(self, virtual: int, size: int) -> bytes:
        """``size`` bytes at a linear-map address.

        :raises MemoryFault: if they are not in the linear map, or not RAM
        """
        return self.memory.read(self.physical(virtual), size)

    def integer(self, virtual: int, size: int, *, signed: bool = False) -> int:
        """A little-endian integer of ``size`` bytes."""
        return int.from_bytes(self.view(virtual, size), "little", signed=signed)

    def u32(self, virtual: int) -> int:
        """A C ``unsigned int``."""
        return self.integer(virtual, 4)

    def word(self, virtual: int) -> int:
        """A C ``unsigned long``."""
        return self.integer(virtual, self.architecture.word_size)

    def pointer(self, virtual: int) -> int:
        """A pointer."""
        return self.word(virtual)

    def string(self, virtual: int, limit: int = 4096) -> str:
        """A NUL-terminated string of at most ``limit`` bytes, in Latin-1 so that no byte is lost.

        :raises MemoryFault: if it does not begin in the linear map, or leaves RAM
        """
        self.physical(virtual)
        limit = min(limit, self.lowmem_end - virtual)
        pieces = []
        while limit > 0:
            # Up to the end of the page: the string may be the last thing in RAM.
            size = min(limit, 4096 - virtual % 4096)
            piece, terminator, _rest = self.read(virtual, size).partition(b"\0")
            pieces.append(piece)
            if terminator:
                break
            virtual, limit = virtual + size, limit - size
        return b"".join(pieces).decode("latin-1")

    def variable(self, symbol: str, *, signed: bool = False) -> int:
        """Value of a global integer or pointer, of whatever size its type says.

        :raises SymbolsError: if there is no such variable
        """
        size = self.vmlinux.sizeof(f"typeof({symbol})")
        return self.integer(self.address(symbol), size, signed=signed)

    def member(self, virtual: int, type_name: str, member: str, *, signed: bool = False) -> int:
        """Value of an integer or pointer member of the structure at ``virtual``.

        :raises SymbolsError: if the type has no such member
        """
        offset = self.vmlinux.offset(type_name, member)
        size = self.vmlinux.sizeof(type_name, member)
        return self.integer(virtual + offset, size, signed=signed)

    def array(self, virtual: int, dtype: np.dtype[np.generic] | str, count: int) -> NDArray[np.generic]:
        """``count`` elements at ``virtual`` as a column, shape ``(count,)``; a view, not to be written to."""
        kind = np.dtype(dtype)
        return np.frombuffer(self.view(virtual, kind.itemsize * count), kind)

    def per_cpu(self, virtual: int, cpu: int) -> int:
        """Address of ``cpu``'s copy of the per-CPU variable whose base address is ``virtual``; it need not be in the
        linear map (:mod:`kvmtools.observe.per_cpu`).

        Source: ``per_cpu_ptr``, include/linux/percpu-defs.h; a kernel for one CPU has no
        ``__per_cpu_offset``.
        """
        if not self.vmlinux.smp:
            return virtual
        # The base of a statically allocated variable is its slid link address; so is what the kernel adds to.
        offset = self.word(self.address("__per_cpu_offset") + cpu * self.architecture.word_size)
        return (virtual + offset) % self.architecture.address_end


def locate(
    memory: PhysicalMemory,
    vmlinux: Vmlinux,
    vmcoreinfo: str | None = None,
    registers: Sequence[Registers] = (),
) -> Kernel:
    """The kernel of ``vmlinux`` in ``memory``, its KASLR slide found and verified.

    :param vmcoreinfo: text of the VMCOREINFO note, if the target has one
    :param registers: every CPU's, if they can be had
    :raises SymbolsError: as :func:`kvmtools.observe.symbols.slide.find_slide`
    """
    slide = find_slide(memory, vmlinux, vmcoreinfo, registers)
    vmlinux.believe()
    return kernel_at(slide, memory, vmlinux)


def kernel_at(slide: int, memory: PhysicalMemory, vmlinux: Vmlinux) -> Kernel:
    """The kernel of ``vmlinux`` that was moved by ``slide``."""
    kernel = with_lowmem_end(
        Kernel(vmlinux, slide, memory, vmlinux.page_offset, vmlinux.architecture.address_end)
    )
    if vmlinux.banner is None:
        seen = kernel.string(kernel.address("linux_banner"), 512).encode("latin-1")
        kernel = replace(kernel, seen_banner=seen)
    return kernel


def find_kernel(
    memory: PhysicalMemory,
    folder: Path | None = None,
    vmcoreinfo: str | None = None,
    registers: Sequence[Registers] = (),
) -> Kernel:
    """The kernel that runs in ``memory``, whose vmlinux nobody has named: it is looked for by what is found there.

    :param folder: where to look first; the other arguments are those of :func:`locate`
    :raises SymbolsError: if no kernel is there, it is for 64 bits, or nothing that debugs it is found
    """
    from kvmtools.observe.symbols.in_memory import kernels_in

    demand_paging(registers)
    if any(cpu.efer is not None and cpu.efer & EFER_LMA for cpu in registers):
        raise SymbolsError(
            "the guest runs a 64-bit kernel, and this is for i386 kernels",
            hint="drgn itself knows those: drgn --qemu ADDRESS -s VMLINUX",
        )
    tried: dict[str | None, SymbolsError] = {}
    for each in kernels_in(memory, vmcoreinfo):
        key = each.build_id or each.release
        if key not in tried:
            try:
                return locate(memory, Vmlinux.seek(each, folder), vmcoreinfo, registers)
            except SymbolsError as error:
                tried[key] = error
    if tried:
        raise next(iter(tried.values()))  # the first was the most likely
    raise SymbolsError(
        "no Linux kernel is recognised in the guest's memory, so none can be looked for",
        hint="give its vmlinux with -s/--symbols PATH, in a script with symbols=",
    )


def with_lowmem_end(kernel: Kernel) -> Kernel:
    """``kernel`` with the end of lowmem that the guest says, if it can be right, else without one."""
    address_end = kernel.architecture.address_end
    kernel = replace(kernel, lowmem_end=address_end)
    said = _said_end(kernel)
    image_end = kernel.address("_end") if kernel.vmlinux.has_symbol("_end") else kernel.page_offset
    if not image_end < said < address_end:
        return kernel  # too early in boot, setup_arch() has not come to it; or it was overwritten
    return replace(kernel, lowmem_end=said)


def _said_end(kernel: Kernel) -> int:
    """``high_memory``; of a kernel that lacks it, what that is set from: ``initmem_init``, arch/x86/mm/init_32.c."""
    try:
        return kernel.variable(kernel.architecture.linear_map_end)
    except Absent:
        return kernel.page_offset + (kernel.variable("max_low_pfn") << PAGE_SHIFT)

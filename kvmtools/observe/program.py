"""A :class:`drgn.Program` of the guest's kernel that can follow i386 virtual addresses.

drgn 0.3.0 knows the i386 kernel's types but not its page tables, so virtual memory is one segment of 4 GiB
whose read function walks the guest's tables with ours.  With that, variables, structures, lists, per-CPU
variables and most of drgn's helpers work: ``prog["init_task"].comm``, ``for_each_task``, ``pfn_to_page``,
``for_each_slab_cache``,
``get_dmesg``.

What stays out of reach:

- what drgn does in C with page tables of its own: ``follow_phys``, ``virt_to_phys``, ``page_to_virt`` and
other users of
  the direct-map offset, ``access_remote_vm``; :func:`kvmtools.observe.paging.translate.translate` and
  :func:`kvmtools.observe.pages.memmap.observe_memmap` do that work
- stack traces: drgn has no unwinder for i386 kernels
- physical addresses at and above 4 GiB: in an i386 program drgn cuts every address to 32 bits before anybody
is asked, so
  a read there would silently return another page.  ``prog.read(..., physical=True)`` therefore works only
  where there are no such addresses, without PAE and with all RAM below 4 GiB; elsewhere it fails, and
  :func:`kvmtools.drgn.read_physical` or ``kernel.memory.read`` is the way
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import drgn

from kvmtools.errors import MemoryFault, SymbolsError
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.paging.forms import Form
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.symbols.debug_file import I386
from kvmtools.observe.vmcoreinfo import vmcoreinfo

if TYPE_CHECKING:
    from kvmtools.attach.memory.physical import PhysicalMemory
    from kvmtools.observe.architecture import Architecture

OURS = "kvmtools"
"""Key of ``Program.config``: who has it reads its memory by us."""
_ALL = (1 << 64) - 1
"""Size of a segment that covers all addresses; drgn cuts it to those that the program has."""
PHYSICAL_IS_CUT = (
    "drgn cuts physical addresses to 32 bits, and this guest may have more: "
    "kvmtools.drgn.read_physical(prog, address, size) reads them whole"
)


def drgn_program(memory: PhysicalMemory, kernel: Kernel, *, cr3: int | None = None) -> drgn.Program:
    """A program for ``kernel``, read from ``memory``.

    :param cr3: page tables that virtual addresses go through; the kernel's own ``swapper_pg_dir`` if ``None``
    :raises SymbolsError: if the facts were recorded and there is no vmlinux to give to drgn
    """
    files = kernel.vmlinux.files()
    program = drgn.Program(I386)
    program.set_linux_kernel_custom(vmcoreinfo(kernel), is_live=True)
    root = kernel.root if cr3 is None else cr3
    add_memory(program, memory, kernel.architecture, root, kernel.paging)
    _add_symbols(program, files)
    return program


def read_through(memory: PhysicalMemory, cr3: int, virtual: int, size: int, form: Form) -> bytes:
    """``size`` bytes at ``virtual`` through the page tables at ``cr3``.

    :raises MemoryFault: if a byte of them is not mapped, or is mapped to something that is not RAM
    """
    pieces: list[tuple[int, int]] = []  # physical address and length; what follows on in both is one
    done = 0
    while done < size:
        way = translate(memory, cr3, virtual + done, form)
        if way.physical is None:
            raise MemoryFault(virtual + done, way.fault or "not mapped", space="virtual")
        length = min(size - done, way.size - (virtual + done) % way.size)
        if pieces and sum(pieces[-1]) == way.physical:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + length)
        else:
            pieces.append((way.physical, length))
        done += length
    return b"".join(memory.read(*piece) for piece in pieces)


def add_memory(
    program: drgn.Program, memory: PhysicalMemory, architecture: Architecture, root: int, form: Form
) -> None:
    """Have all that ``program`` reads from now on read from ``memory``, virtual addresses through the page table at
    ``root``; what it could read before is covered.
    """

    def virtual(address: int, count: int, _offset: int, _physical: bool) -> bytes:
        if address + count > architecture.address_end:
            raise drgn.FaultError("no address of an i386 kernel", address)
        try:
            return read_through(memory, root, address, count, form)
        except MemoryFault as fault:
            raise drgn.FaultError(str(fault), fault.address) from None

    def physical(address: int, count: int, _offset: int, _physical: bool) -> bytes:
        try:
            return memory.read(address, count)
        except MemoryFault as fault:
            raise drgn.FaultError(str(fault), fault.address) from None

    program.add_memory_segment(0, _ALL, virtual)
    ram_end = memory.ranges[-1].end if memory.ranges else 0
    if _is_wide(program) or max(ram_end, 1 << architecture.physical_bits) <= architecture.address_end:
        program.add_memory_segment(0, _ALL, physical, physical=True)
    else:
        refuse_memory(program, PHYSICAL_IS_CUT, physical=True)


def refuse_memory(program: drgn.Program, reason: str, *, physical: bool) -> None:
    """Have every read of ``program`` fail, instead of returning what may be another page."""

    def fail(address: int, _count: int, _offset: int, _physical: bool) -> bytes:
        raise drgn.FaultError(reason, address)

    program.add_memory_segment(0, _ALL, fail, physical=physical)


def _is_wide(program: drgn.Program) -> bool:
    """Whether drgn takes addresses of the program for 64 bits: it does if it was opened from an ELF64 core."""
    return bool(program.platform and program.platform.flags & drgn.PlatformFlags.IS_64_BIT)


def _add_symbols(program: drgn.Program, files: tuple[Path, ...]) -> None:
    module = program.main_module("kernel", create=True)
    module.loaded_file_status = drgn.ModuleFileStatus.WANT  # it may be that only the image has all symbols
    for file in files:
        module.try_file(file, force=True)  # locate() has verified that it is the guest's
    if module.debug_file_status is not drgn.ModuleFileStatus.HAVE:
        raise SymbolsError(f"drgn finds no debugging information in {' and '.join(map(str, files))}")

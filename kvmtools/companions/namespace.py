"""The names that a drgn prompt or script of ours finds: drgn's own, and ours for what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import drgn
import drgn.helpers.linux as linux_helpers
from drgn.cli import default_globals

from kvmtools.observe.memmap import page_at, page_pfn
from kvmtools.observe.program import drgn_program, read_through
from kvmtools.observe.translate import Translation, translate

if TYPE_CHECKING:
    from kvmtools.attach.pause import Pausing
    from kvmtools.attach.target import Target
    from kvmtools.observe.kernel import Kernel

HELP = """\
kvmtools adds:
  prog                  the guest's kernel; virtual addresses go through {table}
  vtop(address)         every level of the page tables
  page(pfn or page)     one struct page in full
  read(address, size)   bytes at a virtual address; physical(address, size) at a physical one, of 64 bits
  program(cr3)          another prog, through the page table at this physical address
  paused()              `with paused(): ...` holds the guest meanwhile
  kernel, target        what they are made from (kvmtools.observe, kvmtools.attach)"""


def namespace(target: Target, kernel: Kernel, cr3: int) -> dict[str, Any]:
    """Globals for a prompt or a script; virtual addresses go through the page table at ``cr3``.

    :raises SymbolsError: if drgn cannot use the vmlinux
    """
    prog = drgn_program(kernel.memory, kernel, cr3=cr3)
    names: dict[str, Any] = default_globals(prog)
    names.update((name, getattr(linux_helpers, name)) for name in linux_helpers.__all__)
    names.update(_ours(target, kernel, cr3))
    return names


def _ours(target: Target, kernel: Kernel, cr3: int) -> dict[str, Any]:
    def vtop(address: int | drgn.Object) -> Translation:
        """Every level of the translation of a virtual address."""
        return translate(kernel.memory, cr3, _number(address), pae=kernel.pae)

    def page(which: int | drgn.Object) -> dict[str, Any]:
        """One page in full: by pfn, or by (the address of) its ``struct page``."""
        number = _number(which)
        return page_at(kernel, page_pfn(kernel, number) if number >= kernel.page_offset else number)

    def read(address: int | drgn.Object, size: int) -> bytes:
        """``size`` bytes at a virtual address."""
        return read_through(kernel.memory, cr3, _number(address), size, pae=kernel.pae)

    def physical(address: int | drgn.Object, size: int) -> bytes:
        """``size`` bytes at a guest-physical address, above 4 GiB too."""
        return kernel.memory.read(_number(address), size)

    def program(cr3: int) -> drgn.Program:
        """A program that reads virtual addresses through the page table at ``cr3``."""
        return drgn_program(kernel.memory, kernel, cr3=cr3)

    def paused() -> Pausing:
        """Hold the guest for the length of a ``with``."""
        return target.paused()

    functions: tuple[Callable[..., Any], ...] = (vtop, page, read, physical, program, paused)
    return {"kernel": kernel, "target": target, **{each.__name__: each for each in functions}}


def _number(value: int | drgn.Object) -> int:
    return int(value.value_()) if isinstance(value, drgn.Object) else value

"""The names that a drgn prompt or script of ours finds: drgn's own, and ours for what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import drgn
import drgn.helpers.linux as linux_helpers
from drgn.cli import default_globals

from kvmtools.api.module_symbols import add_modules

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel
    from kvmtools.api.pages import Page
    from kvmtools.api.translations import TranslatedAddress

Where: TypeAlias = int | str | drgn.Object

HELP = """\
kvmtools adds:
  prog                  the guest's kernel; virtual addresses go through {table}
  vtop(address)         every level of the page tables; an address may be a symbol, "init_task+8"
  page(pfn or page)     one struct page in full
  read(address, size)   bytes at a virtual address; physical(address, size) at a physical one, of 64 bits
  program(cr3)          another prog, through the page table at this physical address
  paused()              `with paused(): ...` holds the guest meanwhile
  kernel                what they are made from: check(), walk(), pkmap(), zones(), ... (kvmtools.OpenKernel)"""


def namespace(kernel: OpenKernel, cr3: int) -> dict[str, Any]:
    """Globals for a prompt or a script; virtual addresses go through the page table at ``cr3``, and modules have their
    types and symbols where the files are found.

    :raises SymbolsError: if drgn cannot use the vmlinux
    """
    prog = kernel.program(cr3=cr3)
    vmlinux = kernel.session.kernel.vmlinux
    add_modules(prog, vmlinux.files(), vmlinux.folder)
    names: dict[str, Any] = default_globals(prog)
    names.update((name, getattr(linux_helpers, name)) for name in linux_helpers.__all__)
    names.update(_ours(kernel, cr3))
    return names


def _ours(kernel: OpenKernel, cr3: int) -> dict[str, Any]:
    def vtop(address: Where) -> TranslatedAddress:
        """Every level of the translation of a virtual address."""
        return kernel.vtop(_number(address), cr3=cr3)

    def page(which: Where) -> Page:
        """One page in full: by pfn, or by (the address of) its ``struct page``."""
        return kernel.page(_number(which))

    def read(address: Where, size: int) -> bytes:
        """``size`` bytes at a virtual address."""
        return kernel.read(_number(address), size, cr3=cr3)

    def physical(address: int, size: int) -> bytes:
        """``size`` bytes at a guest-physical address, above 4 GiB too."""
        return kernel.physical(address, size)

    def program(cr3: int) -> drgn.Program:
        """A program that reads virtual addresses through the page table at ``cr3``."""
        return kernel.program(cr3=cr3)

    functions: tuple[Callable[..., Any], ...] = (vtop, page, read, physical, program, kernel.paused)
    return {"kernel": kernel, **{each.__name__: each for each in functions}}


def _number(value: Where) -> int | str:
    """A number, or a text as the command line takes it."""
    return int(value.value_()) if isinstance(value, drgn.Object) else value

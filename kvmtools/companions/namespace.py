"""The names that a drgn prompt or script of ours finds: drgn's own, and ours for what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias

import drgn
import drgn.helpers.linux as linux_helpers
from drgn.cli import default_globals

from kvmtools.companions.shown import ShownPage, ShownTranslation
from kvmtools.errors import UsageError
from kvmtools.observe.pages.memmap import page_at, page_pfn
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.program import drgn_program, read_through
from kvmtools.show.addresses import virtual_address

if TYPE_CHECKING:
    from kvmtools.attach.monitor.pause import Pausing
    from kvmtools.attach.target import Target
    from kvmtools.observe.kernel import Kernel

Where: TypeAlias = int | str | drgn.Object

HELP = """\
kvmtools adds:
  prog                  the guest's kernel; virtual addresses go through {table}
  vtop(address)         every level of the page tables; an address may be a symbol, "init_task+8"
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
    def vtop(address: Where) -> ShownTranslation:
        """Every level of the translation of a virtual address."""
        way = translate(kernel.memory, cr3, _number(kernel, address), pae=kernel.pae)
        return ShownTranslation(**{field.name: getattr(way, field.name) for field in fields(way)})

    def page(which: Where) -> ShownPage:
        """One page in full: by pfn, or by (the address of) its ``struct page``."""
        number = _number(kernel, which)
        try:
            pfn = page_pfn(kernel, number) if number >= kernel.page_offset else number
            return ShownPage(page_at(kernel, pfn))
        except IndexError as error:
            raise UsageError(str(error)) from error

    def read(address: Where, size: int) -> bytes:
        """``size`` bytes at a virtual address."""
        return read_through(kernel.memory, cr3, _number(kernel, address), size, pae=kernel.pae)

    def physical(address: Where, size: int) -> bytes:
        """``size`` bytes at a guest-physical address, above 4 GiB too."""
        return kernel.memory.read(_number(kernel, address), size)

    def program(cr3: int) -> drgn.Program:
        """A program that reads virtual addresses through the page table at ``cr3``."""
        return drgn_program(kernel.memory, kernel, cr3=cr3)

    def paused() -> Pausing:
        """Hold the guest for the length of a ``with``."""
        return target.paused()

    functions: tuple[Callable[..., Any], ...] = (vtop, page, read, physical, program, paused)
    return {"kernel": kernel, "target": target, **{each.__name__: each for each in functions}}


def _number(kernel: Kernel, value: Where) -> int:
    """A number; a text is a symbol or an address as the command line takes it.

    :raises UsageError: if a text is neither
    """
    if isinstance(value, str):
        return virtual_address(value, kernel.address)
    return int(value.value_()) if isinstance(value, drgn.Object) else value

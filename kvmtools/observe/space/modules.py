"""Loaded modules and where their code and data lie: on i386, in the vmalloc area (MODULES_VADDR is VMALLOC_START).

Source: ``struct module``, include/linux/module.h: one area and one for init code up to 6.3 (``core_layout``), since
then an array of areas by use (``mem``).  Freed areas have size 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.structure import Structure
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Range

_MODULE = "struct module"
# A longer list has lost its way.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Module:
    """One module; ``areas`` are ranges of virtual addresses."""

    name: str
    areas: tuple[Range, ...]


def observe_modules(kernel: Kernel) -> tuple[Module, ...]:
    """Modules in the order of the list ``modules``, which begins with the last one loaded; none without CONFIG_MODULES.

    :raises MemoryFault: if the list leads to what the kernel does not map
    """
    vmlinux = kernel.vmlinux
    if not vmlinux.has_symbol("modules") or not vmlinux.has_type(_MODULE):
        return ()
    head, link = kernel.address("modules"), vmlinux.offset(_MODULE, "list")
    found: list[Module] = []
    at = kernel.pointer(head + vmlinux.offset("struct list_head", "next"))
    while at != head:
        if len(found) == _MOST:
            raise MemoryFault(head, f"the list of modules does not come back within {_MOST}", space="virtual")
        module = Structure(kernel, _MODULE, at - link)
        found.append(Module(module.text("name"), tuple(_areas(module))))
        at = module.unsigned("list.next")
    return tuple(found)


def _areas(module: Structure) -> Iterator[Range]:
    for base, size in _members(module.vmlinux):
        start, length = module.unsigned(base), module.unsigned(size)
        if length:
            yield Range(start, start + length)


def _members(vmlinux: Vmlinux) -> list[tuple[str, str]]:
    """Members that hold base and size of each area."""
    if vmlinux.has_member(_MODULE, "mem"):
        areas = range(vmlinux.array_length(_MODULE, "mem"))
        return [(f"mem[{area}].base", f"mem[{area}].size") for area in areas]
    layouts = ("core_layout", "init_layout", "data_layout")
    return [(f"{name}.base", f"{name}.size") for name in layouts if vmlinux.has_member(_MODULE, name)]

"""Functions for gdb's expressions: ``print/x $kvm_pte(init_task)``, ``print $kvm_page(0x1473)->flags``."""

from __future__ import annotations

from typing import Any

import gdb

from . import stub
from .commands import refused
from .companion import Companion
from .expressions import number

_BYTES = 8


def define_functions(companion: Companion) -> None:
    PageTableEntry(companion)
    StructPage(companion)


class PageTableEntry(gdb.Function):
    """$kvm_pte (ADDRESS [, VCPU])
    The page table entry of a virtual address, as an unsigned long long: the one that maps it, of whatever level, or
    else the one where its way ends; bit 0 tells which.  ADDRESS is a number, a pointer, or a symbol's name as a string.
    The page table is the kernel's own, or the one that VCPU, a number, uses now."""

    def __init__(self, companion: Companion) -> None:
        super().__init__("kvm_pte")
        self._companion = companion

    @stub.in_one_line
    def invoke(self, *args: gdb.Value) -> gdb.Value:
        if len(args) not in (1, 2):
            raise gdb.GdbError("$kvm_pte takes an address, and perhaps the number of a vCPU")
        address, *vcpu = args
        cpu = number(vcpu[0]) if vcpu else None
        return _integer(_asked(self._companion, "entry", address=_word(address), cpu=cpu))


class StructPage(gdb.Function):
    """$kvm_page (PFN)
    The struct page of a page frame, as a pointer; without symbols that have the type, as an unsigned long long."""

    def __init__(self, companion: Companion) -> None:
        super().__init__("kvm_page")
        self._companion = companion

    @stub.in_one_line
    def invoke(self, *args: gdb.Value) -> gdb.Value:
        if len(args) != 1:
            raise gdb.GdbError("$kvm_page takes a pfn")
        found = _integer(_asked(self._companion, "page", pfn=number(args[0])))
        try:
            return found.cast(gdb.lookup_type("struct page").pointer())
        except gdb.error:
            return found


def _asked(companion: Companion, request: str, **more: Any) -> int:
    answer = companion.ask(request, **more)
    if answer["code"]:
        raise refused(answer)
    return int(answer["value"])


def _word(address: gdb.Value) -> int | str:
    """A string is the name of a symbol."""
    kind = address.type.strip_typedefs()
    is_string = kind.code == gdb.TYPE_CODE_ARRAY and kind.target().sizeof == 1
    return address.string() if is_string else number(address)


def _integer(value: int) -> gdb.Value:
    """Gdb would make a ``long`` of a Python number, which has 32 bits here."""
    return gdb.Value(value.to_bytes(_BYTES, "little"), gdb.lookup_type("unsigned long long"))

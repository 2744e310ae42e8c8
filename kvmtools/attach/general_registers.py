"""The general registers of a vCPU, as QEMU's monitor tells them and as a core's ``NT_PRSTATUS`` note holds them.

They decide nothing about memory: debuggers that open a core want them.  Source: ``struct user_regs_struct``,
arch/x86/include/asm/user_32.h; ``struct elf_prstatus``, include/linux/elfcore.h (6.1).
"""

from __future__ import annotations

import re
import struct
from dataclasses import astuple, dataclass

NT_PRSTATUS = 1
_CPU = re.compile(r"^CPU#\d+\s*$", re.MULTILINE)
_REGISTER = re.compile(r"\b[ER](AX|BX|CX|DX|SI|DI|BP|SP|IP|FL)=\s*([0-9a-f]+)")
_SEGMENT = re.compile(r"^([CDEFGS]S) ?=([0-9a-f]{4})\b", re.MULTILINE)
# The process id stands at 24, the registers at 72; behind them is whether there are floating-point ones.
_PRSTATUS = struct.Struct("<24xI44x17I4x")
_NO_SYSTEM_CALL = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class GeneralRegisters:
    """One vCPU's, in the order of ``struct user_regs_struct``."""

    ebx: int
    ecx: int
    edx: int
    esi: int
    edi: int
    ebp: int
    eax: int
    ds: int
    es: int
    fs: int
    gs: int
    orig_eax: int
    eip: int
    cs: int
    eflags: int
    esp: int
    ss: int

    def prstatus(self, pid: int) -> bytes:
        """The note's data; debuggers tell the CPUs apart by ``pid``, which must not be 0."""
        return _PRSTATUS.pack(pid, *astuple(self))


def from_prstatus(data: bytes) -> GeneralRegisters | None:
    """What a note of an i386 core says; ``None`` if it is another machine's."""
    if len(data) != _PRSTATUS.size:
        return None
    return GeneralRegisters(*_PRSTATUS.unpack(data)[1:])


def parse(text: str) -> tuple[GeneralRegisters, ...]:
    """One record per vCPU of ``info registers -a``; those that it does not tell are 0."""
    return tuple(map(_one, _CPU.split(text)[1:]))


def _one(body: str) -> GeneralRegisters:
    known = {name.lower(): int(value, 16) & 0xFFFF_FFFF for name, value in _REGISTER.findall(body)}
    segments = {name.lower(): int(value, 16) for name, value in _SEGMENT.findall(body)}
    general = {
        f"e{name}": known.get(name, 0) for name in ("bx", "cx", "dx", "si", "di", "bp", "ax", "ip", "sp")
    }
    return GeneralRegisters(
        **general,
        **{name: segments.get(name, 0) for name in ("ds", "es", "fs", "gs", "cs", "ss")},
        orig_eax=_NO_SYSTEM_CALL,
        eflags=known.get("fl", 0),
    )

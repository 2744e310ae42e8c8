"""Registers from the human monitor: the text of ``info registers -a``.

The same names from qemu-system-i386 and qemu-system-x86_64 (``x86_cpu_dump_state``,
target/i386/cpu-dump.c); only a vCPU in long mode says RIP where others say EIP.
"""

from __future__ import annotations

import re

from kvmtools.errors import AttachError
from kvmtools.records import Registers

_CPU = re.compile(r"^CPU#(\d+)\s*$", re.MULTILINE)
_VALUE = re.compile(r"\b(EIP|RIP|CR0|CR3|CR4|EFER|IDT)=\s*([0-9a-f]+)")


def parse(text: str) -> tuple[Registers, ...]:
    """One record per vCPU, in the order of the text.

    :raises AttachError: if a vCPU lacks one of the registers
    """
    parts = _CPU.split(text)
    return tuple(
        _one(int(number), body) for number, body in zip(parts[1::2], parts[2::2], strict=True)
    ) or _no_cpu(text)


def _one(cpu: int, body: str) -> Registers:
    values = {name: int(value, 16) for name, value in _VALUE.findall(body)}
    try:
        return Registers(
            cpu=cpu,
            eip=values["EIP"] if "EIP" in values else values["RIP"],
            cr0=values["CR0"],
            cr3=values["CR3"],
            cr4=values["CR4"],
            efer=values.get("EFER"),
            idt=values.get("IDT"),
        )
    except KeyError as missing:
        raise AttachError(
            f"`info registers` shows no {missing.args[0]} for vCPU {cpu}", hint="is this QEMU an x86 one?"
        ) from None


def _no_cpu(text: str) -> tuple[Registers, ...]:
    raise AttachError(f"`info registers -a` shows no vCPU but {text[:40]!r}")


def disagreements(first: tuple[Registers, ...], second: tuple[Registers, ...]) -> tuple[str, ...]:
    """What two readings of the same paused guest say differently, one line each; empty if they agree.

    A register that one of them does not record (``None``) is not compared.
    """
    if len(first) != len(second):
        return (f"{len(first)} vCPUs against {len(second)}",)
    return tuple(
        f"vCPU {one.cpu}: {name} is {ours:#x} against {theirs:#x}"
        for one, other in zip(first, second, strict=True)
        for name in ("cpu", "eip", "cr0", "cr3", "cr4", "efer")
        if (ours := getattr(one, name)) != (theirs := getattr(other, name))
        and ours is not None
        and theirs is not None
    )

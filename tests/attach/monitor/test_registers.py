from __future__ import annotations

from dataclasses import replace

import pytest

from kvmtools.attach.monitor.registers import disagreements, parse
from kvmtools.errors import AttachError
from kvmtools.records import Registers

I386 = """
CPU#0
EAX=00000000 EBX=00000001 ECX=00000000 EDX=00000000
EIP=cbaa752b EFL=00200246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
LDT=0000 00000000 00000000 00008200 DPL=0 LDT
GDT=     ffa01000 000000ff
IDT=     ffa00000 000007ff
CR0=80050033 CR2=08072480 CR3=01192000 CR4=003506b0
DR6=ffff0ff0 DR7=00000400
EFER=0000000000000800

CPU#1
EIP=c1000010 EFL=00000002 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0
CR0=80050033 CR2=00000000 CR3=0bca6020 CR4=003506b0
EFER=0000000000000000
"""
FIRST = Registers(0, 0xCBAA752B, 0x80050033, 0x1192000, 0x3506B0, 0x800, 0xFFA0_0000)
SECOND = Registers(1, 0xC1000010, 0x80050033, 0xBCA6020, 0x3506B0, 0)


def test_every_vcpu_of_a_32_bit_qemu() -> None:
    assert parse(I386) == (FIRST, SECOND)


def test_a_64_bit_qemu_writes_them_longer() -> None:
    text = I386.replace("EIP=c1000010", "RIP=ffffffff81000010").replace(
        "CR3=0bca6020", "CR3=000000000bca6020"
    )
    assert parse(text) == (FIRST, replace(SECOND, eip=0xFFFFFFFF81000010))


@pytest.mark.parametrize(
    ("text", "why"),
    [(I386.replace("CR3=0bca6020", ""), "no CR3 for vCPU 1"), ("unknown command: 'info'", "shows no vCPU")],
)
def test_what_is_missing_is_named(text: str, why: str) -> None:
    with pytest.raises(AttachError, match=why):
        parse(text)


def test_two_readings_are_compared_register_by_register() -> None:
    assert disagreements((FIRST, SECOND), (FIRST, SECOND)) == ()
    assert disagreements((FIRST, SECOND), (FIRST, replace(SECOND, cr3=0x1000, cr4=1))) == (
        "vCPU 1: cr3 is 0xbca6020 against 0x1000",
        "vCPU 1: cr4 is 0x3506b0 against 0x1",
    )
    assert disagreements((FIRST,), (FIRST, SECOND)) == ("1 vCPUs against 2",)


def test_what_one_side_does_not_know_is_no_disagreement() -> None:
    assert disagreements((FIRST,), (replace(FIRST, efer=None),)) == ()

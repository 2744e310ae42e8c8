from __future__ import annotations

import pytest

from kvmtools.attach.general_registers import GeneralRegisters, from_prstatus, parse

CPU = """
EAX=00000000 EBX=00000001 ECX=fffff000 EDX=f3dd0078
ESI=00000007 EDI=c43adec0 EBP=c43a9f4c ESP=c43a9f48
EIP=c42a7752 EFL=00200246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
ES =007b 00000000 ffffffff 00cff300 DPL=3 DS   [-WA]
CS =0060 00000000 ffffffff 00cf9a00 DPL=0 CS32 [-R-]
SS =0068 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
DS =007b 00000000 ffffffff 00cff300 DPL=3 DS   [-WA]
FS =00d8 2f934000 ffffffff 008f9300 DPL=0 DS16 [-WA]
GS =0000 00000000 00000000 00000000
CR0=80050033 CR2=080724a0 CR3=0120c000 CR4=003506b0
"""
FIRST = GeneralRegisters(
    ebx=1,
    ecx=0xFFFF_F000,
    edx=0xF3DD_0078,
    esi=7,
    edi=0xC43A_DEC0,
    ebp=0xC43A_9F4C,
    eax=0,
    ds=0x7B,
    es=0x7B,
    fs=0xD8,
    gs=0,
    orig_eax=0xFFFF_FFFF,
    eip=0xC42A_7752,
    cs=0x60,
    eflags=0x20_0246,
    esp=0xC43A_9F48,
    ss=0x68,
)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_the_monitor_says(line_end: str) -> None:
    text = f"\nCPU#0{CPU}\nCPU#1{CPU.replace('c42a7752', 'c42a7753')}".replace("\n", line_end)
    first, second = parse(text)
    assert first == FIRST
    assert second.eip == 0xC42A_7753


def test_long_mode_has_wider_ones() -> None:
    (wide,) = parse("CPU#0\nRAX=00000000deadbeef RSP=ffffffff00001000\nRIP=0000000000100000 RFL=00000002")
    assert (wide.eax, wide.esp, wide.eip, wide.eflags) == (0xDEAD_BEEF, 0x1000, 0x10_0000, 2)


def test_a_note_holds_them() -> None:
    data = FIRST.prstatus(7)
    assert len(data) == 144
    assert int.from_bytes(data[24:28], "little") == 7
    assert int.from_bytes(data[72 + 4 * 12 :][:4], "little") == FIRST.eip
    assert from_prstatus(data) == FIRST


def test_another_machines_note_is_passed_over() -> None:
    assert from_prstatus(bytes(336)) is None

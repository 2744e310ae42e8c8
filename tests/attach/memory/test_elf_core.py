from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.open import open_target
from kvmtools.errors import AttachError, MemoryFault
from kvmtools.records import Range, Registers

FOUR_GIB = 1 << 32


def fill(core: Any) -> Any:
    core.loads = [(0, b"a" * 0xA0000), (0xC0000, b"b" * 0x80000), (0xFFFC0000, b"rom!" * 0x1000)]
    core.notes = [("CORE", 1, bytes(144)), ("VMCOREINFO", 0, b"OSRELEASE=6.1\nPAGESIZE=4096\n\0")]
    core.qemu_note(rip=0xC1000000, cr0=0x80050033, cr3=0x1192020, cr4=0x6B0, idt=0xFFA0_0000)
    core.qemu_note(rip=0xC1000001, cr0=0x80050033, cr3=0x1192040, cr4=0x6B0)
    return core


@pytest.mark.parametrize("bits", [32, 64])
def test_both_widths(core_file: Any, bits: int) -> None:
    fill(core_file).bits = bits
    if bits == 64:
        core_file.loads.append((FOUR_GIB, b"above" * 0x1000))
    core = ElfCore(core_file.write())
    assert core.read(0x9FFFE, 2) == b"aa"
    assert bytes(core.view(0xC0000, 3)) == b"bbb"
    if bits == 64:
        assert core.read(FOUR_GIB, 5) == b"above"
    assert core.registers() == (
        Registers(0, 0xC1000000, 0x80050033, 0x1192020, 0x6B0, None, 0xFFA0_0000),
        Registers(1, 0xC1000001, 0x80050033, 0x1192040, 0x6B0, None, 0),
    )
    assert core.vmcoreinfo() == "OSRELEASE=6.1\nPAGESIZE=4096\n"
    core.close()


def test_devices_memory_is_no_ram(core_file: Any) -> None:
    fill(core_file).loads.append((FOUR_GIB, bytes(4096)))
    core = ElfCore(core_file.write())
    assert core.ranges == (Range(0, 0xA0000), Range(0xC0000, 0x140000), Range(FOUR_GIB, FOUR_GIB + 4096))
    with pytest.raises(MemoryFault):
        core.read(0xFFFC0000, 4)
    core.close()


def test_a_core_that_qemu_did_not_write_holds_ram_behind_a_gap(core_file: Any) -> None:
    """kexec leaves its own crashkernel region out of the middle of RAM."""
    core_file.loads = [(0, bytes(0xA0000)), (1 << 20, bytes(0x1000)), (3 << 20, b"behind" * 0x800)]
    core_file.notes = [("VMCOREINFO", 0, b"OSRELEASE=6.1\nPAGESIZE=4096\n\0")]
    core = ElfCore(core_file.write())
    assert core.read(3 << 20, 6) == b"behind"
    core.close()


def test_a_core_without_notes(core_file: Any) -> None:
    core_file.loads = [(0, bytes(4096))]
    core = ElfCore(core_file.write())
    assert core.registers() == ()
    assert core.vmcoreinfo() is None
    core.close()


def test_a_core_as_a_target(core_file: Any) -> None:
    with open_target(core=fill(core_file).write()) as target:
        assert target.description == f"core {core_file.path}: 2 vCPUs, 1 MiB"
        assert target.monitor is None
        assert len(target.registers()) == 2
        assert target.vmcoreinfo() == "OSRELEASE=6.1\nPAGESIZE=4096\n"
        with target.paused() as pause:
            assert target.memory.read(0, 1) == b"a"
        assert (pause.was_running, pause.held, pause.milliseconds) == (False, False, 0)
        with pytest.raises(AttachError, match="no CPU"):
            target.gdb()


@pytest.mark.parametrize("missing", [1, 0x4000, 0x120000])
def test_a_truncated_core_is_refused(core_file: Any, missing: int) -> None:
    path = fill(core_file).write()
    os.truncate(path, path.stat().st_size - missing)
    with pytest.raises(AttachError, match="is truncated: it has 0x"):
        ElfCore(path)


def test_a_core_cut_in_its_headers_is_refused(core_file: Any) -> None:
    path = fill(core_file).write()
    os.truncate(path, 100)
    with pytest.raises(AttachError, match="cut off inside its program headers"):
        ElfCore(path)


def test_damaged_notes_are_refused(core_file: Any) -> None:
    path = fill(core_file).write()
    data = bytearray(path.read_bytes())
    at = data.index(b"VMCOREINFO") - 8
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(AttachError, match="damaged notes: note VMCOREINFO is cut off"):
        ElfCore(path)


def test_registers_of_an_unknown_version_are_not_guessed(core_file: Any) -> None:
    core_file.loads = [(0, bytes(4096))]
    core_file.qemu_note(rip=0, cr0=0, cr3=0, cr4=0, version=2)
    core = ElfCore(core_file.write())
    with pytest.raises(AttachError, match="unknown version 2"):
        core.registers()
    core.close()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not an ELF file"),
        (b"#!/bin/sh\n" * 20, "is not an ELF file"),
        (b"QEVM" + bytes(200), r"is a saved QEMU machine, not an ELF core \(write it as ELF: virsh dump"),
        (b"LibvirtQemudSave" + bytes(200), r"is a saved QEMU machine, not an ELF core \(write it as ELF: "),
    ],
)
def test_other_files_are_named(core_file: Any, data: bytes, why: str) -> None:
    core_file.path.write_bytes(data)
    with pytest.raises(AttachError, match=why):
        ElfCore(core_file.path)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("machine", 62, "core of x86_64, not of an i386 guest"),
        ("type", 2, "not a core"),
        ("loads", [], "holds no memory"),
    ],
)
def test_other_elf_files_are_named(core_file: Any, field: str, value: Any, why: str) -> None:
    setattr(fill(core_file), field, value)
    with pytest.raises(AttachError, match=why):
        ElfCore(core_file.write())


def test_a_core_that_is_not_there(core_file: Any) -> None:
    with pytest.raises(AttachError, match="No such file"):
        ElfCore(core_file.path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(core_file: Any, make: Callable[[Path], None]) -> None:
    make(core_file.path)
    for opened in (lambda: ElfCore(core_file.path), lambda: open_target(core=core_file.path)):
        with pytest.raises(AttachError, match=r"/core is not a file$"):
            opened()

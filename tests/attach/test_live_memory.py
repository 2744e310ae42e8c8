"""The two transports that ask QEMU: another process's memory, and QMP itself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any

import pytest

from kvmtools.attach.memory import proc_mem
from kvmtools.attach.memory.flat_view import Backed
from kvmtools.attach.memory.proc_mem import ProcMem
from kvmtools.attach.memory.qmp_memory import PmemsaveMemory, XpMemory
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.errors import AttachError, GuestVanished, MemoryFault
from kvmtools.records import Range

HIGH = 1 << 32
MAP = [Backed(0, 0x4000, "ram", 0), Backed(HIGH, HIGH + 0x4000, "ram", 0x4000)]
RANGES = [Range(0, 0x4000), Range(HIGH, HIGH + 0x4000)]


@pytest.fixture
def monitor(fake_qmp: Any) -> Iterator[QmpMonitor]:
    fake_qmp.memory = {0: bytearray(b"low memory" * 100), HIGH: bytearray(b"high memory" * 400)}
    with QmpMonitor(str(fake_qmp.path)) as monitor:
        yield monitor


@pytest.mark.parametrize("kind", [XpMemory, PmemsaveMemory])
def test_any_piece_above_and_below_4_gib(fake_qmp: Any, monitor: QmpMonitor, kind: Any) -> None:
    memory = kind(monitor, RANGES)
    for address, size in ((0, 10), (3, 9), (HIGH + 1, 1), (HIGH + 4095, 300), (0x3FFF, 1), (HIGH, 0x4000)):
        assert memory.read(address, size) == fake_qmp.read(address, size)
    with pytest.raises(MemoryFault):
        memory.read(0x3FFF, 2)
    memory.close()
    memory.close()


def test_a_smaller_read_after_a_larger_one_is_fresh(fake_qmp: Any, monitor: QmpMonitor) -> None:
    memory = PmemsaveMemory(monitor, RANGES)
    memory.read(0, 0x4000)
    fake_qmp.memory[0][:4] = b"NEW!"
    assert memory.read(0, 4) == b"NEW!"
    memory.close()


def test_an_answer_that_is_no_dump_is_a_fault(fake_qmp: Any, monitor: QmpMonitor) -> None:
    fake_qmp._xp = lambda count, address: "Cannot access memory\r\n"
    with pytest.raises(MemoryFault, match="no RAM"):
        XpMemory(monitor, RANGES).read(0, 8)


def test_the_answer_to_another_question_is_not_believed(fake_qmp: Any, monitor: QmpMonitor) -> None:
    answer = fake_qmp._xp
    fake_qmp._xp = lambda count, address: answer(count, address + 0x1000)
    with pytest.raises(AttachError, match="asked for 0x0 and shows 0x1000"):
        XpMemory(monitor, RANGES).read(0, 8)


def test_a_qemu_that_takes_no_file(fake_qmp: Any, monitor: QmpMonitor) -> None:
    def refuse(fake: Any, _: Any) -> None:
        raise fake.Refused("no descriptors in this sandbox")

    fake_qmp.handlers["add-fd"] = refuse
    with pytest.raises(AttachError, match="sandbox"):
        PmemsaveMemory(monitor, RANGES)


@pytest.mark.parametrize("kind", [XpMemory, PmemsaveMemory])
def test_a_guest_that_dies_has_vanished(fake_qmp: Any, monitor: QmpMonitor, kind: Any) -> None:
    memory = kind(monitor, RANGES)
    fake_qmp.die()
    with pytest.raises(GuestVanished):
        memory.read(0, 8)
    memory.close()


@pytest.fixture
def ram() -> Any:
    """Our own process plays QEMU: this is its RAM block."""
    return ctypes.create_string_buffer(b"first page" + bytes(0x8000 - 10), 0x8000)


def answer_addresses(fake_qmp: Any, base: int) -> None:
    def gpa2hva(fake: Any, arguments: Any) -> str:
        address = int(arguments["command-line"].split()[1], 16)
        offset = address if address < HIGH else address - HIGH + 0x4000
        return f"Host virtual address for {address:#x} (ram) is {base + offset:#x}\r\n"

    fake_qmp.handlers["hmp"] = gpa2hva


def test_another_process_memory(fake_qmp: Any, monitor: QmpMonitor, ram: Any) -> None:
    answer_addresses(fake_qmp, ctypes.addressof(ram))
    ram[0x4000:0x4009] = b"above 4 G"
    memory = ProcMem(monitor, MAP)
    assert memory.read(0, 10) == b"first page"
    assert bytes(memory.view(HIGH, 9)) == b"above 4 G"
    ram[0x4000:0x4005] = b"ABOVE"
    assert memory.read(HIGH, 5) == b"ABOVE"
    memory.close()
    memory.close()
    with pytest.raises(AttachError, match="closed"):
        memory.read(0, 1)


def test_memory_that_is_gone_is_an_error(fake_qmp: Any, monitor: QmpMonitor) -> None:
    answer_addresses(fake_qmp, 0x1000)  # the first pages of an address space are never mapped
    memory = ProcMem(monitor, MAP)
    with pytest.raises(AttachError, match="Input/output error"):
        memory.read(0, 10)
    memory.close()


def test_a_qemu_that_hides_its_addresses(fake_qmp: Any, monitor: QmpMonitor) -> None:
    fake_qmp.handlers["hmp"] = lambda fake, _: "No memory is mapped at address 0x0\r\n"
    with pytest.raises(AttachError, match="does not tell where 0x0 lies: No memory is mapped"):
        ProcMem(monitor, MAP)


def test_ram_in_pieces_is_not_read_as_one(fake_qmp: Any, monitor: QmpMonitor) -> None:
    fake_qmp.handlers["hmp"] = lambda fake, _: "Host virtual address for 0x0 (ram) is 0x7f0000000000\r\n"
    with pytest.raises(AttachError, match="not keep the RAM at 0x0 in one piece"):
        ProcMem(monitor, MAP)


def test_a_forbidden_process_names_the_way_out(
    fake_qmp: Any, monitor: QmpMonitor, ram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_addresses(fake_qmp, ctypes.addressof(ram))

    def refuse(path: str, flags: int) -> int:
        assert path == f"/proc/{os.getpid()}/mem"
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(proc_mem.os, "open", refuse)
    with pytest.raises(
        AttachError, match=r"may not be read: Permission denied \(run as its user, .*ptrace_scope"
    ):
        ProcMem(monitor, MAP)

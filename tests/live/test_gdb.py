"""GDB at a real gdbstub: what it reads, and the guest that it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from bare_qemu import Machine, Start

from kvmtools.attach.monitor.registers import disagreements
from kvmtools.attach.open import open_target
from kvmtools.boot.guests.record import Guest
from kvmtools.errors import AttachError, GuestVanished, MemoryFault
from kvmtools.records import PAGE_SIZE


def test_a_killed_gdb_leaves_the_guest_running(split: Machine) -> None:
    with open_target(qemu=split.qmp, gdb=split.gdb) as target:
        gdb = target.gdb()
        process = gdb._gdb.gdb_process
        assert process is not None
        process.kill()
        process.wait()
        with pytest.raises(AttachError, match="gdb ended"):
            gdb.registers()
        gdb.close()
    assert split.running()


def test_an_exception_under_gdb_leaves_the_guest_running(split: Machine) -> None:
    with open_target(qemu=split.qmp, gdb=split.gdb) as target:
        with pytest.raises(ZeroDivisionError), target.gdb():
            raise ZeroDivisionError
        assert target.monitor is not None
        assert target.monitor.command("query-status")["running"]


def test_a_second_gdb_is_told_about_the_first(split: Machine) -> None:
    with open_target(qemu=split.qmp, gdb=split.gdb) as target:
        with target.gdb(), pytest.raises(AttachError, match="another client is connected"):
            target.gdb()
        assert target.monitor is not None
        assert target.monitor.command("query-status")["running"]


def test_qemu_killed_under_gdb(split: Machine) -> None:
    with open_target(qemu=split.qmp, gdb=split.gdb) as target:
        gdb = target.gdb()
        split.kill()
        with pytest.raises(GuestVanished):
            gdb.registers()
        with pytest.raises(GuestVanished):
            gdb.close()


def test_a_monitor_s_socket_is_no_gdbstub(split: Machine) -> None:
    with pytest.raises(AttachError, match="is QMP's socket"):
        open_target(qemu=split.qmp, gdb=split.qmp)
    assert split.running()


def test_what_qemu_does_not_call_by_this_name_is_tried(split: Machine, start: Start, tmp_path: Path) -> None:
    """Its own gdbstub by another path; another guest's; nobody's.  Both guests run afterwards."""
    there = tmp_path / "there"
    there.mkdir()
    renamed = Path(split.gdb).rename(tmp_path / "renamed")
    with open_target(qemu=split.qmp, gdb=str(renamed)) as target:
        assert target.monitor is not None
        assert target.monitor.command("query-status")["running"]
        with target.gdb() as gdb:
            assert gdb.registers()
    assert split.running()
    with pytest.raises(AttachError, match="there is no socket"):
        open_target(qemu=split.qmp, gdb=str(tmp_path / "none"))
    with pytest.raises(
        AttachError, match=r"nobody listens on localhost:1 \(QEMU says that it serves gdb at "
    ):
        open_target(qemu=split.qmp, gdb="localhost:1")
    other = start("-m", "16", folder=there)
    with pytest.raises(AttachError, match="is the GDB socket of another guest"):
        open_target(qemu=split.qmp, gdb=other.gdb)
    with pytest.raises(AttachError, match="is QMP's socket"):
        open_target(qemu=split.qmp, gdb=other.qmp)
    assert other.running()
    assert split.running()


def test_gdb_and_qmp_agree_on_the_registers(guest: Guest) -> None:
    with open_target(qemu=str(guest.qmp), gdb=str(guest.gdb), ram=guest.ram) as target:
        with target.paused(), target.gdb() as gdb:
            ours, theirs = target.registers(), gdb.registers()
            assert len(ours) == guest.smp
            assert disagreements(ours, theirs) == ()
            assert all(one.cr0 >> 31 and one.cr3 for one in ours), "paging is on"
            assert all(bool(one.cr4 & 1 << 5) == (guest.kernel == "pae") for one in ours)
        assert target.monitor is not None
        assert target.monitor.command("query-status")["running"]


def test_gdb_reads_and_writes_virtual_memory(guest: Guest) -> None:
    # The direct mapping; PAGE_OFFSET is 0xc0000000 in our kernels, and 6.1 uses nothing of the first MiB.
    virtual, physical = 0xC0008000, 0x8000
    with (
        open_target(qemu=str(guest.qmp), gdb=str(guest.gdb), ram=guest.ram) as target,
        target.paused(),
        target.gdb() as gdb,
    ):
        before = target.memory.read(physical, 3 * PAGE_SIZE)
        assert gdb.read(virtual, 3 * PAGE_SIZE) == before
        gdb.write(virtual + 1, b"kvmtools")
        assert target.memory.read(physical + 1, 8) == b"kvmtools"
        gdb.write(virtual, before)
        assert target.memory.read(physical, 3 * PAGE_SIZE) == before
        for ask in (lambda: gdb.read(0xFFFFFFF0, 4), lambda: gdb.write(0xFFFFFFF0, b"x")):
            with pytest.raises(MemoryFault, match="virtual address 0xfffffff0"):
                ask()

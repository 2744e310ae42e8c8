"""Every way to a real guest's memory shows the same bytes, above 4 GiB too."""

from __future__ import annotations

import errno
import re
import socket
import subprocess
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from bare_qemu import FOUR_GIB, MIB, RAM, Machine, Start, scatter, shared

from kvmtools.attach.memory import flat_view
from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.attach.memory.physical import SegmentedMemory
from kvmtools.attach.memory.proc_mem import ProcMem
from kvmtools.attach.memory.qmp_memory import PmemsaveMemory, XpMemory
from kvmtools.attach.memory.ram_file import RamFile
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.attach.monitor.registers import disagreements
from kvmtools.attach.monitor.stub_monitor import StubMonitor
from kvmtools.attach.open import open_target
from kvmtools.attach.proof import prove
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.boot.kernels import reference
from kvmtools.errors import AttachError, GuestVanished, MemoryFault
from kvmtools.records import PAGE_SIZE, Range


def test_every_transport_shows_the_same_bytes_above_and_below_4_gib(split: Machine, tmp_path: Path) -> None:
    places = scatter(split)
    with QmpMonitor(split.qmp) as monitor:
        backed = flat_view.ram(monitor)
        ranges = [Range(b.start, b.end) for b in backed]
        assert ranges[-2].end == 64 * MIB
        assert ranges[-1] == Range(FOUR_GIB, FOUR_GIB + 64 * MIB)
        monitor.command("dump-guest-memory", paging=False, protocol=f"file:{tmp_path / 'core'}")
        transports: list[SegmentedMemory] = [
            RamFile(split.ram, backed),
            ProcMem(monitor, backed),
            PmemsaveMemory(monitor, ranges),
            XpMemory(monitor, ranges),
            ElfCore(tmp_path / "core"),
        ]
        for memory in transports:
            for address, data in places.items():
                assert memory.read(address, PAGE_SIZE) == data, f"{memory.name} at {address:#x}"
            start = min(a for a in places if a > FOUR_GIB)
            assert bytes(memory.view(start + 7, 64)) == places[start][7:71]
            with pytest.raises(MemoryFault):
                memory.read(64 * MIB, 1)
            memory.close()


def test_a_core_is_equal_to_the_paused_guest(split: Machine, tmp_path: Path) -> None:
    scatter(split)
    with open_target(qemu=split.qmp, ram=split.ram) as target:
        assert target.monitor is not None
        with target.paused():
            target.monitor.command("dump-guest-memory", paging=False, protocol=f"file:{tmp_path / 'core'}")
            with open_target(core=tmp_path / "core") as core:
                for part in target.memory.ranges:
                    for address in range(part.start, part.end, MIB):
                        size = min(MIB, part.end - address)
                        live = target.memory.read(address, size)
                        assert core.memory.read(address, size) == live, f"{address:#x}"
                assert disagreements(core.registers(), target.registers()) == ()
                assert core.vmcoreinfo() is None


def test_the_shared_file_proves_itself(split: Machine) -> None:
    scatter(split)
    with open_target(qemu=split.qmp) as target:
        # Which pages are looked at is chance; one that is all zero is taken where too few others were met.
        proof = r"ram-file \(proved against xp: 8 pages, 4 above 4 GiB(, [1-4] all zero)?, seed \d+"
        assert re.match(proof, target.transport), target.transport


def test_a_transport_that_wraps_at_4_gib_is_found_out(split: Machine) -> None:
    """DESIGN's trap: dropping the upper half of an address gives bytes, but another page's."""

    class Wrapping(ProcMem):
        name = "wrapping"

        def read(self, address: int, size: int) -> bytes:
            return super().read(address % FOUR_GIB, size)

    scatter(split, pages=2000)
    with QmpMonitor(split.qmp) as monitor:
        backed = flat_view.ram(monitor)
        wrapping = Wrapping(monitor, backed)
        with pytest.raises(AttachError, match="wrapping and xp differ at 0x1"):
            prove(wrapping, XpMemory(monitor, [Range(b.start, b.end) for b in backed]), tries=1024)
        wrapping.close()


@pytest.mark.parametrize(
    ("program", "machine", "size"),
    [
        ("qemu-system-i386", "pc", 256),
        ("qemu-system-i386", "pc", 3584),
        ("qemu-system-i386", "q35", 3584),
        ("qemu-system-x86_64", "q35", 6144),
    ],
)
def test_any_machine_s_hole_is_where_qemu_says(start: Start, program: str, machine: str, size: int) -> None:
    """No shared file: the process is read.  All the RAM is there, and nothing is called RAM that is not."""
    guest = start("-m", str(size), "-machine", machine, "-vga", "std", program=program)
    with open_target(qemu=guest.qmp) as target:
        assert target.transport.startswith("proc-mem (proved against xp: ")
        highest = target.memory.ranges[-1].end
        # Whether the first MiB has a hole of its own depends on how far the firmware has come.
        hole = sum(b.start - a.end for a, b in pairwise(target.memory.ranges) if a.end > MIB)
        assert highest == size * MIB + hole
        with pytest.raises(MemoryFault):
            target.memory.read(0xFD000000, 4)


def test_a_monitor_on_tcp(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process at the other end is found, and opens our files by our name for them if it sees the same ``/proc``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start("-S", "-m", "64", "-device", "vmcoreinfo", "-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off")
    with open_target(qemu=f"127.0.0.1:{port}") as target:
        assert target.transport.startswith("proc-mem (proved against xp: 4 pages")
        assert target.vmcoreinfo() is None
        assert target.monitor is not None
        with closing(PmemsaveMemory(target.monitor, target.memory.ranges)) as memory:
            assert memory.read(0, 0x8000) == target.memory.read(0, 0x8000)
        monkeypatch.setattr("kvmtools.attach.monitor.host_process.same_namespace", lambda _pid: False)
        with pytest.raises(AttachError, match="no file can be lent to QEMU"):
            PmemsaveMemory(target.monitor, target.memory.ranges)


@pytest.mark.parametrize("program", ["qemu-system-i386", "qemu-system-x86_64"])
def test_through_a_gdbstub_alone(start: Start, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A QEMU whose process is not to be seen; an older qemu-system-i386 shows other pages above 4 GiB: found out."""

    def hidden(_monitor: StubMonitor) -> int:
        raise AttachError("on another host")

    monkeypatch.setattr(StubMonitor, "peer_pid", hidden)
    machine = start(
        "-machine", "pc,max-ram-below-4g=64M,memory-backend=ram", *shared(128, RAM), program=program
    )
    places = scatter(machine, pages=3000)
    monkeypatch.setattr("kvmtools.attach.transports._shared_file", lambda *_: None)
    with open_target(gdb=machine.gdb) as target:
        assert target.monitor is not None
        wraps = program == "qemu-system-i386" and target.monitor.version().startswith("7.")
        way = "gdbstub, xp above 4 GiB" if wraps else "gdbstub"
        assert target.transport.startswith(f"{way} (proved against xp: 8 pages, 4 above 4 GiB")
        if wraps:
            assert re.search(
                r"not used: gdbstub (and xp differ at 0x1|is unproved above 4 GiB)", target.transport
            )
        with target.paused():
            assert all(target.memory.read(at, PAGE_SIZE) == places[at] for at in list(places)[::300])
            with pytest.raises(MemoryFault):
                target.memory.read(64 * MIB, 1)
        assert machine.running()


def test_a_process_that_may_not_be_read(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU saves its memory to a file of ours instead, through a gdbstub, too."""

    def denied(path: str, flags: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    machine = start("-m", "64", "-device", "vmcoreinfo")
    monkeypatch.setattr(
        "kvmtools.attach.memory.proc_mem.os", SimpleNamespace(open=denied, O_RDONLY=0, O_CLOEXEC=0)
    )
    with open_target(gdb=machine.gdb) as target:
        assert target.transport.startswith("pmemsave (proved against xp: 4 pages")
        assert "may not be read: Operation not permitted" in target.transport
        with target.paused():  # its firmware runs, and writes there
            assert target.memory.read(0xF0000, 0x10000) == b"".join(
                XpMemory(target.monitor, target.memory.ranges).read(at, 0x1000)
                for at in range(0xF0000, 0x100000, 0x1000)
            )
        assert machine.running()


def test_a_socket_that_was_passed_to_qemu(tmp_path: Path) -> None:
    """As libvirtd does it: it listens, QEMU accepts, and SO_PEERCRED names the one who listened."""
    address = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        command = ["qemu-system-i386", "-accel", "tcg", "-nodefaults", "-display", "none", "-m", "64M"]
        command += ["-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off"]
        command += ["-mon", "chardev=qmp,mode=control"]
        with subprocess.Popen(command, pass_fds=[listener.fileno()]) as process:
            try:
                with QmpMonitor(str(address)) as monitor:
                    assert monitor.peer_pid() == process.pid
                with open_target(qemu=str(address)) as target:
                    assert target.transport.startswith("proc-mem (proved against xp: ")
            finally:
                process.kill()


def test_nothing_that_qemu_was_lent_stays(split: Machine) -> None:
    with QmpMonitor(split.qmp) as monitor:
        ranges = [Range(b.start, b.end) for b in flat_view.ram(monitor)]
        memory = PmemsaveMemory(monitor, ranges)
        assert len(monitor.command("query-fdsets")) == 1
        memory.read(0, PAGE_SIZE)
        memory.close()
        assert monitor.command("query-fdsets") == []


def test_qemu_killed_under_its_memory(start: Start) -> None:
    machine = start("-m", "64")
    with open_target(qemu=machine.qmp) as target:
        assert target.memory.name == "proc-mem"
        machine.kill()
        with pytest.raises(GuestVanished, match="is gone"):
            target.memory.read(0, PAGE_SIZE)


def test_vmcoreinfo_and_a_guest_that_runs_on(guest: Guest) -> None:
    with open_target(qemu=str(guest.qmp), ram=guest.ram) as target:
        text = target.vmcoreinfo()
        assert text is not None
        assert text.startswith(f"OSRELEASE={Agent(guest.agent).version()['kernel']}\n")
        assert ("CONFIG_X86_PAE=y" in text) == (guest.kernel == "pae")
        assert target.monitor is not None
        assert target.monitor.command("query-status")["running"]


def test_a_hand_started_pae_guest_without_a_shared_file(start: Start) -> None:
    """6 GiB, one QMP socket, no RAM file, no vmcoreinfo device: anybody's QEMU."""
    kernel = reference.ensure("pae", progress=print)
    machine = start(
        *("-cpu", "max", "-smp", "2", "-m", "6G"),
        *("-kernel", str(kernel.bzimage), "-initrd", str(kernel.initrd)),
    )
    with open_target(qemu=machine.qmp, gdb=machine.gdb) as target:
        assert target.transport.startswith("proc-mem (proved against xp: 8 pages, 4 above 4 GiB")
        assert target.memory.ranges[-1].end == 7 << 30
        assert target.vmcoreinfo() is None
        deadline = time.monotonic() + 120
        while not all(one.cr0 >> 31 for one in target.registers()):
            assert time.monotonic() < deadline, "the guest did not turn paging on"
            time.sleep(0.2)
        with target.paused(), target.gdb() as gdb:
            assert disagreements(target.registers(), gdb.registers()) == ()
    assert machine.running()

"""Every way into a real QEMU.

Most of this needs no kernel: a QEMU that only runs its firmware has RAM, registers and a run state.  A machine whose
PCI hole begins at 64 MiB has RAM above 4 GiB without needing 4 GiB, and its dump is small.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvmtools.attach import memory_map
from kvmtools.attach.elf_core import ElfCore
from kvmtools.attach.memory import SegmentedMemory
from kvmtools.attach.proc_mem import ProcMem
from kvmtools.attach.proof import prove
from kvmtools.attach.qmp import Monitor
from kvmtools.attach.qmp_memory import PmemsaveMemory, XpMemory
from kvmtools.attach.ram_file import RamFile
from kvmtools.attach.registers import disagreements
from kvmtools.attach.snapshot import Snapshot
from kvmtools.attach.target import open_target
from kvmtools.boot import kernels
from kvmtools.boot.guests import Guest
from kvmtools.errors import AttachError, GuestVanished, MemoryFault
from kvmtools.records import PAGE_SIZE, Range

FOUR_GIB = 1 << 32
MIB = 1 << 20


@dataclass
class Machine:
    """A QEMU started by hand, outside kvmtools."""

    process: subprocess.Popen[bytes]
    qmp: str
    gdb: str
    ram: Path

    def running(self) -> bool:
        with Monitor(self.qmp) as monitor:
            return bool(monitor.command("query-status")["running"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Machine]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts QEMU with the arguments given; every one of them ends with the test."""
    ram = Path(f"/dev/shm/kvmtools-test-attach-{os.getpid()}")
    with ExitStack() as stack:
        stack.callback(ram.unlink, missing_ok=True)

        def begin(*arguments: str, program: str = "qemu-system-i386") -> Machine:
            sockets = tmp_path / "qmp", tmp_path / "gdb"
            command = [program, "-accel", "tcg", "-nodefaults", "-display", "none", *arguments]
            for option, path in zip(("-qmp", "-gdb"), sockets, strict=True):
                command += [option, f"unix:{path},server=on,wait=off"]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
            while not all(path.exists() for path in sockets):
                assert process.poll() is None
                time.sleep(0.01)
            return Machine(process, *map(str, sockets), ram)

        yield begin


def shared(size: int, path: Path) -> list[str]:
    return ["-m", f"{size}M", "-object", f"memory-backend-file,id=ram,size={size}M,mem-path={path},share=on"]


@pytest.fixture
def split(start: Start) -> Machine:
    """64 MiB on each side of 4 GiB, in a shared file; the firmware's loop runs."""
    path = f"/dev/shm/kvmtools-test-attach-{os.getpid()}"
    machine = "pc,max-ram-below-4g=64M,memory-backend=ram"
    return start("-cpu", "max", "-machine", machine, *shared(128, Path(path)))


def scatter(machine: Machine, *, pages: int = 50) -> dict[int, bytes]:
    """Write random bytes to the RAM file on both sides of 4 GiB; guest-physical address to what is there now."""
    chooser = random.Random(1)
    places = {}
    with machine.ram.open("r+b") as file:
        for base, offset in ((0, 0), (FOUR_GIB, 64 * MIB)):
            for page in chooser.sample(range(8 * MIB, 64 * MIB, PAGE_SIZE), pages):
                data = chooser.randbytes(PAGE_SIZE)
                os.pwrite(file.fileno(), data, offset + page)
                places[base + page] = data
    return places


def test_every_transport_shows_the_same_bytes_above_and_below_4_gib(split: Machine, tmp_path: Path) -> None:
    places = scatter(split)
    with Monitor(split.qmp) as monitor:
        backed = memory_map.ram(monitor)
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
        assert target.transport == "ram-file (proved against qmp: 8 pages, 4 above 4 GiB)"


def test_a_transport_that_wraps_at_4_gib_is_found_out(split: Machine) -> None:
    """DESIGN's trap: dropping the upper half of an address gives bytes, but another page's."""

    class Wrapping(ProcMem):
        name = "wrapping"

        def read(self, address: int, size: int) -> bytes:
            return super().read(address % FOUR_GIB, size)

    scatter(split, pages=2000)
    with Monitor(split.qmp) as monitor:
        backed = memory_map.ram(monitor)
        wrapping = Wrapping(monitor, backed)
        with pytest.raises(AttachError, match="wrapping and qmp differ at 0x1"):
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
        assert target.transport.startswith("proc-mem (proved against qmp: ")
        highest = target.memory.ranges[-1].end
        hole = sum(
            b.start - a.end for a, b in zip(target.memory.ranges[1:], target.memory.ranges[2:], strict=False)
        )
        assert highest == size * MIB + hole
        with pytest.raises(MemoryFault):
            target.memory.read(0xFD000000, 4)


def test_a_monitor_on_tcp(start: Start) -> None:
    """The process at the other end is found; no file can be lent, so there is no VMCOREINFO, and QMP memory is text."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start("-S", "-m", "64", "-device", "vmcoreinfo", "-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off")
    with open_target(qemu=f"127.0.0.1:{port}") as target:
        assert target.transport.startswith("proc-mem (proved against qmp: 4 pages")
        assert target.vmcoreinfo() is None
        assert target.monitor is not None
        with pytest.raises(AttachError, match="no file can be passed to QEMU here"):
            PmemsaveMemory(target.monitor, target.memory.ranges)


def test_a_running_guest_is_held_and_runs_again(split: Machine) -> None:
    with open_target(qemu=split.qmp) as target:
        assert target.monitor is not None
        with target.paused() as pause:
            snapshot = Snapshot(target.memory)
            snapshot.keep(0, 640 << 10)
            assert not target.monitor.command("query-status")["running"]
        assert pause.was_running
        assert pause.milliseconds > 0
    assert split.running()
    assert snapshot.read(0, 16) == snapshot.view(0, 16)


@pytest.mark.parametrize("with_gdb", [False, True])
def test_a_paused_guest_stays_paused(start: Start, with_gdb: bool) -> None:
    machine = start("-S", "-m", "64")
    with open_target(qemu=machine.qmp, gdb=machine.gdb) as target:
        with target.paused() as pause:
            target.registers()
            if with_gdb:
                with target.gdb() as gdb:
                    gdb.registers()
        if with_gdb:
            with target.gdb() as gdb:
                gdb.registers()
        assert not pause.was_running
    assert not machine.running()


HOLD = """
import sys, time
from kvmtools.attach.target import open_target
with open_target(qemu=sys.argv[1], gdb=sys.argv[2]) as target:
    with target.{what}():
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_paused_lets_the_guest_run(split: Machine, number: signal.Signals) -> None:
    program = [sys.executable, "-c", HOLD.format(what="paused"), split.qmp, split.gdb]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(number)
        holder.wait(30)
    assert split.running()


def test_a_killed_program_leaves_gdb_to_let_the_guest_run(split: Machine) -> None:
    """SIGKILL: only gdb is left, and it detaches when its input ends."""
    program = [sys.executable, "-c", HOLD.format(what="gdb"), split.qmp, split.gdb]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    deadline = time.monotonic() + 30
    while not split.running():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


def test_qemu_killed_while_paused(split: Machine) -> None:
    with open_target(qemu=split.qmp) as target:
        with pytest.raises(GuestVanished) as caught, target.paused():
            split.kill()
        assert "\n" not in str(caught.value)
        with pytest.raises(GuestVanished):
            target.registers()
        assert target.memory.read(0, 4) is not None, "the file is still there"


def test_qemu_killed_under_its_memory(start: Start) -> None:
    machine = start("-m", "64")
    with open_target(qemu=machine.qmp) as target:
        assert target.memory.name == "proc-mem"
        machine.kill()
        with pytest.raises(GuestVanished, match="is gone"):
            target.memory.read(0, PAGE_SIZE)


def test_qemu_killed_under_gdb(split: Machine) -> None:
    with open_target(qemu=split.qmp, gdb=split.gdb) as target:
        gdb = target.gdb()
        split.kill()
        with pytest.raises(GuestVanished):
            gdb.registers()
        with pytest.raises(GuestVanished):
            gdb.close()


def test_a_busy_monitor(split: Machine) -> None:
    with (
        Monitor(split.qmp),
        pytest.raises(AttachError, match="serves one client at a time"),
    ):
        Monitor(split.qmp, greeting_seconds=0.3)


def test_gdb_s_socket_is_no_monitor_and_its_guest_runs_on(split: Machine) -> None:
    with pytest.raises(AttachError, match="looks like QEMU's GDB socket"):
        Monitor(split.gdb)
    with Monitor(split.qmp) as monitor:
        assert monitor.command("query-status")["running"]


def test_a_monitor_s_socket_is_no_gdbstub(split: Machine) -> None:
    with (
        open_target(qemu=split.qmp, gdb=split.qmp) as target,
        pytest.raises(AttachError, match="is a QMP socket"),
    ):
        target.gdb()


def test_an_impatient_client_does_no_harm(split: Machine) -> None:
    """What it sent, taking the busy monitor for a gdbstub, is read by QEMU when it has long left."""
    with Monitor(split.qmp) as first:
        with pytest.raises(AttachError, match="no QMP greeting"):
            Monitor(split.qmp, greeting_seconds=1.5)
        assert first.command("query-status")["running"]
    with Monitor(split.qmp) as monitor:
        assert monitor.command("query-status")["running"]


def test_a_crowd_is_served_one_after_another(split: Machine) -> None:
    def ask(_: int) -> bool:
        with Monitor(split.qmp) as monitor:
            return bool(monitor.command("query-status")["running"])

    with ThreadPoolExecutor(12) as crowd:
        assert all(crowd.map(ask, range(12)))


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


def test_vmcoreinfo_and_a_guest_that_runs_on(guest: Guest) -> None:
    with open_target(qemu=str(guest.qmp), ram=guest.ram) as target:
        text = target.vmcoreinfo()
        assert text is not None
        assert text.startswith("OSRELEASE=6.1.")
        assert ("CONFIG_X86_PAE=y" in text) == (guest.kernel == "pae")
        assert target.monitor is not None
        assert target.monitor.command("query-status")["running"]


def test_a_hand_started_pae_guest_without_a_shared_file(start: Start) -> None:
    """6 GiB, one QMP socket, no RAM file, no vmcoreinfo device: anybody's QEMU."""
    kernel = kernels.ensure("pae", progress=print)
    machine = start(
        *("-cpu", "max", "-smp", "2", "-m", "6G"),
        *("-kernel", str(kernel.bzimage), "-initrd", str(kernel.initrd)),
    )
    with open_target(qemu=machine.qmp, gdb=machine.gdb) as target:
        assert target.transport.startswith("proc-mem (proved against qmp: 8 pages, 4 above 4 GiB")
        assert target.memory.ranges[-1].end == 7 << 30
        assert target.vmcoreinfo() is None
        deadline = time.monotonic() + 120
        while not all(one.cr0 >> 31 for one in target.registers()):
            assert time.monotonic() < deadline, "the guest did not turn paging on"
            time.sleep(0.2)
        with target.paused(), target.gdb() as gdb:
            assert disagreements(target.registers(), gdb.registers()) == ()
    assert machine.running()

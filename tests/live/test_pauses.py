"""A guest is held for a moment and runs again, whatever happens to who holds it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from bare_qemu import Machine, Start

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.attach.open import open_target
from kvmtools.errors import AttachError, GuestVanished


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
    # The vectors that the firmware has set up: nobody writes to them any more.
    assert any(snapshot.read(0, 16))
    with split.ram.open("rb") as ram:
        assert snapshot.read(0, 16) == ram.read(16)


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
from kvmtools.attach.open import open_target
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


ASK = """
import sys
from kvmtools.attach.open import open_target
with open_target(gdb=sys.argv[1]) as target:
    print("asks", flush=True)
    while True:
        {what}
"""
REGISTERS = "target.registers_by_gdb()"
PAUSED = "with target.paused(): target.registers()"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("what", [REGISTERS, PAUSED])
def test_a_signal_while_a_gdbstub_is_asked_lets_the_guest_run(
    split: Machine, number: signal.Signals, what: str
) -> None:
    """Every question stops the guest; wherever in one the signal strikes, it runs on."""
    program = [sys.executable, "-c", ASK.format(what=what), split.gdb]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as asker:
        assert asker.stdout is not None
        assert asker.stdout.readline() == b"asks\n"
        time.sleep(0.05)
        asker.send_signal(number)
        assert asker.wait(30) != 0
    assert split.running()


HELD = "python import time; print('held', flush=True); time.sleep(60)"


def test_who_holds_a_gdbstub_is_told(split: Machine) -> None:
    gdb = ["gdb", "-nx", "-batch", "-ex", f"target remote {split.gdb}", "-ex", HELD]
    with subprocess.Popen(gdb, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as holder:
        assert holder.stdout is not None
        assert any(line == b"held\n" for line in holder.stdout)
        with pytest.raises(
            AttachError, match=rf"another client is connected to .*: process {holder.pid} \(gdb "
        ):
            open_target(gdb=split.gdb)
        assert not split.running(), "it is their gdb that holds it"
        holder.kill()


def test_qemu_killed_while_its_gdbstub_is_asked(split: Machine) -> None:
    with open_target(gdb=split.gdb) as target:
        pausing = target.paused()
        pausing.__enter__()
        split.kill()
        with pytest.raises(GuestVanished, match="ended or closed its gdbstub"):
            pausing.__exit__(None, None, None)
        with pytest.raises(GuestVanished):
            target.registers_by_gdb()


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


def test_qemu_killed_while_paused(split: Machine) -> None:
    with open_target(qemu=split.qmp) as target:
        pausing = target.paused()
        pausing.__enter__()
        before = target.memory.read(0, 16)  # its firmware would write there
        split.kill()
        with pytest.raises(GuestVanished) as caught:
            pausing.__exit__(None, None, None)
        assert "\n" not in str(caught.value)
        with pytest.raises(GuestVanished):
            target.registers()
        assert target.memory.read(0, 16) == before, "the file is still there"

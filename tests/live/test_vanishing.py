"""QEMU is killed in the middle of a check: one line, exit code 3, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests import lifecycle, ram_location

KVMTOOLS = Path(sys.executable).with_name("kvmtools")
SECONDS_INTO_THE_CHECK = (0.1, 0.2, 0.3, 0.45, 0.6)


@pytest.mark.parametrize("transport", ["ram file", "QEMU's memory"])
def test_a_guest_killed_during_a_check(transport: str) -> None:
    name = f"vanish-{os.getpid()}"
    codes = []
    for delay in SECONDS_INTO_THE_CHECK:
        with lifecycle.booted(name, kernel="pae", memory="128M") as guest:
            target = ["-g", name]
            if transport != "ram file":
                guest.ram.rename(guest.ram.with_suffix(".hidden"))
                guest.ram.with_suffix(".hidden").unlink()
                target = ["--qemu", str(guest.qmp), "-s", str(guest.vmlinux)]
            command = [KVMTOOLS, "check", *target, "--format", "json"]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as check:
                time.sleep(delay)
                os.kill(guest.pid, signal.SIGKILL)
                output, complaint = check.communicate(timeout=60)
        codes.append(check.returncode)
        if check.returncode == 3:
            assert output == ""
            assert complaint.startswith("kvmtools: ")
            assert complaint.count("\n") == 1
        else:  # it was done already
            assert (check.returncode, complaint) == (0, "")
    assert 3 in codes
    assert not list(ram_location.SHARED_MEMORY.glob(f"*{name}*"))


def test_a_check_that_is_killed_by_a_signal_leaves_the_guest_running(pae_guest: lifecycle.Guest) -> None:
    for delay in SECONDS_INTO_THE_CHECK:
        for number in (signal.SIGINT, signal.SIGTERM):
            command = [KVMTOOLS, "check", "-g", pae_guest.name]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as check:
                time.sleep(delay)
                check.send_signal(number)
                _, complaint = check.communicate(timeout=60)
            assert b"Traceback" not in complaint, complaint
            with QmpMonitor(str(pae_guest.drgn_qmp)) as monitor:
                assert monitor.command("query-status")["running"], (delay, number)

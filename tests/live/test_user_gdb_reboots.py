"""``kvm ...`` in a person's own gdb on a QEMU for 64 bits that runs an i386 kernel, is rebooted, and ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bare_qemu import Machine, Start
from user_gdb import INTERRUPT, PROMPT, batch, children, gdb_on, terminal

from kvmtools.boot.kernels import reference
from kvmtools.cli.gdb_script import script

KVMTOOLS = Path(sys.executable).with_name("kvmtools")


@pytest.fixture
def of_64_bits(start: Start, console: Path, built: reference.BuiltKernel) -> Machine:
    """A QEMU for 64 bits that runs an i386 kernel, and may be rebooted."""
    machine = start(
        *("-cpu", "max", "-smp", "2", "-m", "256"),
        *("-kernel", str(built.bzimage), "-initrd", str(built.initrd)),
        *("-append", "console=ttyS0", "-serial", f"file:{console}"),
        program="qemu-system-x86_64",
    )
    wait_for_boot(console, 1)
    return machine


@pytest.fixture
def console(tmp_path: Path) -> Path:
    return tmp_path / "console"


@pytest.fixture
def built() -> reference.BuiltKernel:
    return reference.ensure("pae", progress=print)


def wait_for_boot(console: Path, number: int) -> None:
    limit = time.monotonic() + 120
    while not console.exists() or console.read_text(errors="replace").count("kvmtools: ready") < number:
        assert time.monotonic() < limit
        time.sleep(0.1)


WIDE = "set architecture i386:x86-64"
"""What its stub speaks, whatever its guest is."""


def test_a_qemu_for_64_bits_that_runs_an_i386_kernel(
    of_64_bits: Machine, built: reference.BuiltKernel, tmp_path: Path
) -> None:
    done = batch(
        tmp_path,
        built.vmlinux,
        of_64_bits.gdb,
        "kvm symbols",
        "kvm vtop $rsp init_task --format json",
        "print/x $kvm_pte(&init_task)",
        "print $kvm_page(16)->flags",
        "kvm check",
        "output $kvm_exit",
        before=(WIDE,),
    )
    assert (done.code, done.complaints) == (0, "")
    assert [way["mapped"] for way in json.loads(done.shown[1])["translations"]] == [True, True]
    assert int(done.shown[2].rpartition(" = ")[2], 16) & 1
    assert "✓ agrees with the model" in done.shown[4]
    assert done.shown[5] == "0"
    assert of_64_bits.running()


def test_a_reboot_and_the_end_of_qemu_under_the_prompt(
    of_64_bits: Machine, built: reference.BuiltKernel, console: Path
) -> None:
    """The process that answers stays; it finds the new kernel, which lies elsewhere, and none before that is there."""
    with terminal([*gdb_on(built.vmlinux), "-ex", WIDE, "-ex", f"source {script()}"]) as gdb:
        gdb.say("set pagination off")
        gdb.say(f"target remote {of_64_bits.gdb}")
        assert "slide 0x" in gdb.say("kvm symbols")
        (ours,) = children(gdb.process.pid)
        gdb.say("monitor system_reset")
        gdb.say("stepi")
        assert "but no CPU runs it (an earlier boot left it, " in gdb.say("kvm regs")
        gdb.type("continue\n")
        wait_for_boot(console, 2)
        gdb.type(INTERRUPT)
        gdb.until(PROMPT)
        shown = gdb.say("kvm vtop init_task")
        by_qmp = [KVMTOOLS, "vtop", "--qemu", of_64_bits.qmp, "-s", built.vmlinux, "init_task"]
        assert shown == subprocess.run(by_qmp, capture_output=True, text=True, check=True).stdout
        assert gdb.say("kvm symbols").startswith(f"{built.vmlinux}: slide 0x")
        assert gdb.say("output/x &init_task").startswith(f"0x{shown[:8]}")
        assert children(gdb.process.pid) == [ours]
        of_64_bits.kill()
        assert re.fullmatch(r"gdb: Remote (connection closed|communication error.*)\n", gdb.say("kvm regs"))
        assert gdb.say("kvm regs") == "gdb is not connected to a QEMU (target remote ADDRESS)\n"

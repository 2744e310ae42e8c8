"""A guest that was rebooted: earlier kernels lie where they were, and the one that runs is found among them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bare_qemu import RAM, Machine, Start, shared

import kvmtools
from kvmtools.api.watching import looks
from kvmtools.attach.memory.physical import PhysicalMemory
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.attach.open import open_target
from kvmtools.boot.kernels import reference
from kvmtools.observe.kernel import locate
from kvmtools.observe.symbols.vmlinux import Vmlinux

KVMTOOLS = Path(sys.executable).with_name("kvmtools")
READY = "kvmtools: ready"
REBOOTS = 2


@pytest.fixture
def console(tmp_path: Path) -> Path:
    return tmp_path / "console"


@pytest.fixture
def built() -> reference.BuiltKernel:
    return reference.ensure("pae", progress=print)


@pytest.fixture
def machine(start: Start, built: reference.BuiltKernel, console: Path) -> Machine:
    """256 MiB, so that few places are left for KASLR; unlike a guest of ours it may reboot."""
    return start(
        *("-cpu", "max", "-smp", "2", "-machine", "pc,memory-backend=ram", *shared(256, RAM)),
        *("-kernel", str(built.bzimage), "-initrd", str(built.initrd), "-append", "console=ttyS0"),
        *("-serial", f"file:{console}", "-device", "vmcoreinfo"),
    )


def wait_for_boot(console: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while not console.exists() or console.read_text(errors="replace").count(READY) < number:
        assert time.monotonic() < deadline, console.read_text(errors="replace")[-2000:]
        time.sleep(0.1)


def _places(memory: PhysicalMemory, vmlinux: Vmlinux) -> int:
    """How often its banner lies in memory where an image could have it."""
    banner = vmlinux.banner + b"\0"
    inside = vmlinux.symbol("linux_banner") - vmlinux.page_offset
    places = range(inside, memory.ranges[-1].end - len(banner), 2 << 20)
    return sum(memory.read(place, len(banner)) == banner for place in places)


def test_an_open_kernel_does_not_answer_for_the_one_that_runs_now(
    machine: Machine, built: reference.BuiltKernel, console: Path
) -> None:
    """What an earlier boot left in memory would answer every question."""
    wait_for_boot(console, 1)
    with kvmtools.open(qemu=machine.qmp, symbols=built.vmlinux) as kernel:
        slide, first = kernel.slide, kernel.vtop("init_task").physical
        seen = looks(kernel, 0.01, 2)
        assert next(seen).number == 1
        for boot in range(2, 8):
            assert isinstance(kernel.session.target.monitor, QmpMonitor)
            kernel.session.target.monitor.command("system_reset")
            wait_for_boot(console, boot)
            try:
                assert kernel.vtop("init_task").physical == first, "KASLR chose the same place"
            except kvmtools.SymbolsError:
                break
        else:
            pytest.fail("KASLR always chose the same place")
        for ask in (kernel.zones, kernel.pkmap, kernel.walk, kernel.check, lambda: kernel.page(1)):
            with pytest.raises(kvmtools.SymbolsError, match="was rebooted"):
                ask()
        assert next(seen).number == 2, "watch finds the kernel again"
        assert kernel.slide != slide
        assert kernel.check().exit_code == 0


def test_the_kernel_that_runs_is_found_after_every_reboot(
    machine: Machine, built: reference.BuiltKernel, console: Path
) -> None:
    vmlinux = Vmlinux.load(built.vmlinux)
    places = []
    for boot in range(1, REBOOTS + 2):
        wait_for_boot(console, boot)
        with open_target(qemu=machine.qmp, ram=machine.ram, vmlinux=built.vmlinux) as target:
            note = target.vmcoreinfo()
            assert note is not None
            # The note is the guest's own word for where it is; locate() is not told.
            (own,) = re.findall(r"^SYMBOL\(_stext\)=([0-9a-f]+)$", note, re.MULTILINE)
            assert locate(target.memory, vmlinux, None, target.registers()).address("_stext") == int(own, 16)
            places.append(_places(target.memory, vmlinux))
        if boot <= REBOOTS:
            with QmpMonitor(machine.qmp) as monitor:
                monitor.command("system_reset")
    check = subprocess.run(
        [KVMTOOLS, "check", "--qemu", machine.qmp, "-s", built.vmlinux], capture_output=True, text=True
    )
    assert check.returncode == 0, (check.stdout[-2000:], check.stderr)
    assert places[0] == 1
    assert max(places) > 1, "no reboot left a kernel behind: nothing was shown"

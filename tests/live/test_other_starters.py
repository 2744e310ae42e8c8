"""Guests that other people's programs start: the lines of docs/guests.md, each typed beside a real guest of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import documented
import pytest

from kvmtools.boot.host import accelerator
from kvmtools.boot.kernels import reference
from kvmtools.boot.kernels.reference import BuiltKernel
from kvmtools.paths import cache_dir

READY = "kvmtools: ready"
KUNIT = "tools/testing/kunit/kunit.py"
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def built() -> BuiltKernel:
    return reference.ensure("pae", progress=print)


@pytest.fixture
def folder(tmp_path: Path, built: BuiltKernel) -> Path:
    (tmp_path / "vmlinux").symlink_to(built.vmlinux)
    (tmp_path / "bzImage").symlink_to(built.bzimage)
    return tmp_path


def test_virtme_ng(folder: Path, built: BuiltKernel) -> None:
    if not Path(sys.executable).with_name("vng").exists():
        pytest.skip("virtme-ng is not installed (pip install virtme-ng)")
    for port in (1234, 3636):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                pytest.skip(f"port {port}, which vng --debug takes, is somebody else's")
    start, line = documented.sections()["virtme-ng"]
    (folder / "i386-root").mkdir()
    # Our kernel has no 9p to mount that root with, and an initrd instead.
    more = (
        "--disable-kvm",
        "--force-9p",
        "--cpus 2",
        "--memory 1G",
        f"--qemu-opts='-initrd {built.initrd}'",
        "-v",
    )
    with documented.started(start, folder, *more, until=READY):
        documented.run(line, folder)


def test_kunit(folder: Path, built: BuiltKernel) -> None:
    source = Path(json.loads((built.bzimage.parent / "kernel.json").read_text())["source"])
    # The kernel may have been built in another cache than the one in which it is now.
    places = (source, cache_dir() / "sources" / source.name)
    program = next((found for place in places if (found := place / KUNIT).exists()), None)
    if program is None:
        pytest.skip(f"the kernel's source is not there any more: {source}")
    takes_kvm = "'kvm'" in program.with_name("kunit_kernel.py").read_text() and os.access("/dev/kvm", os.W_OK)
    if takes_kvm and accelerator.resolve("auto", print) != "kvm":
        pytest.skip("this kunit.py takes a /dev/kvm on which no guest boots")
    image = folder / "build/arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True)
    image.symlink_to(built.bzimage)
    (folder / "build/vmlinux").symlink_to(built.vmlinux)
    shutil.copy(built.config, folder / "build/.config")
    (folder / "tools").symlink_to(program.parents[2])
    start, line = documented.sections()["kunit.py"]
    # What is built already is not built again.
    command = start.command.replace("kunit.py run", "kunit.py exec")
    with documented.started(command, folder, f"--qemu_args='-initrd {built.initrd}'", until=READY):
        documented.run(line, folder)


# As runqemu starts a qemux86 (scripts/runqemu, meta/conf/machine/include/x86/qemuboot-x86.inc); what it needs itself, a
# build of Yocto's, is not to be had here.
RUNQEMU = (
    "qemu-system-i386 -nic none -object rng-random,filename=/dev/urandom,id=rng0 -device virtio-rng-pci,rng=rng0",
    "-usb -device usb-tablet -usb -device usb-kbd -cpu IvyBridge -machine q35,i8042=off -smp 4 -m 256",
    "-qmp unix:qmp.sock,server,nowait -serial mon:stdio -serial null -nographic -kernel bzImage",
    "-append 'root=/dev/ram0 rw console=ttyS0 oprofile.timer=1 tsc=reliable no_timer_check rcupdate.rcu_expedited=1'",
)


def test_runqemu(folder: Path, built: BuiltKernel) -> None:
    _, line = documented.sections()["runqemu"]
    # An IvyBridge has what TCG has not, of which it warns.
    with documented.started(" ".join(RUNQEMU), folder, f"-initrd {built.initrd}", until=READY):
        documented.run(line, folder)


SCRIPT = """#!/bin/bash
kernel=$1
shift
options=(-cpu Haswell,+smep,+smap -kernel "$kernel" -initrd initrd -m 300 -smp 2 -no-reboot -device i6300esb)
options+=(-netdev user,id=net0 -device e1000,netdev=net0 -boot order=nc -serial stdio -display none -monitor null)
exec qemu-system-i386 "${options[@]}" "$@" -append "root=/dev/ram0 console=ttyS0 panic=-1 softlockup_panic=1"
"""
"""Made as those of the 0-day robot are: an array of options, no monitor, the console on stdout."""


def test_a_script(folder: Path, built: BuiltKernel) -> None:
    (folder / "initrd").symlink_to(built.initrd)
    (folder / "reproduce.sh").write_text(SCRIPT)
    (folder / "reproduce.sh").chmod(0o755)
    start, line = documented.sections()["A script that runs QEMU"]
    with documented.started(start, folder, until=READY):
        documented.run(line, folder)


_QUICKLY = "--lzma2=preset=0,dict=4KiB,mf=hc3,nice=2,depth=1"


@pytest.fixture
def tuxmake_output(folder: Path, built: BuiltKernel) -> Path:
    """What ``tuxmake --target-arch i386 config kernel debugkernel modules`` leaves, by its names."""
    output = folder / "output"
    output.mkdir()
    (output / "bzImage").symlink_to(built.bzimage)
    (output / "config").symlink_to(built.config)
    with (output / "vmlinux.xz").open("wb") as packed:
        subprocess.run(["xz", _QUICKLY, "--stdout", built.vmlinux], stdout=packed, check=True)
    for name in ("modules.tar.xz", "System.map", "metadata.json", "build.log"):
        (output / name).write_bytes(b"")
    return output


def test_tuxmake(folder: Path, built: BuiltKernel, tuxmake_output: Path) -> None:
    (folder / "initrd").symlink_to(built.initrd)
    start, check, stop = documented.sections()["tuxmake"]
    try:
        documented.run(start, folder)
        console = folder / "kvmtools/mine/console.log"
        deadline = time.monotonic() + 120
        while READY not in console.read_text(errors="replace"):
            assert time.monotonic() < deadline, console.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        documented.run(check, folder)
    finally:
        documented.run(stop, folder)
    assert not console.exists()

"""Our init on the oldest processors that our kernels run on; an older one, the kernel itself refuses.

On a 486 and a Pentium it was seen to run by hand, with a kernel built for them (CONFIG_M486); that no instruction in it
is younger than they are holds tests/boot/kernels/test_initramfs.py.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from kvmtools.boot.kernels import reference

REFUSAL = "This kernel requires an i686 CPU, but only detected an i{}86 CPU."


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        ("486", REFUSAL.format(4)),
        ("pentium", REFUSAL.format(5)),
        ("pentium2", "kvmtools: ready"),
        ("pentium3", "kvmtools: ready"),
    ],
)
def test_what_a_processor_makes_of_our_kernel(processor: str, said: str, tmp_path: Path) -> None:
    kernel = reference.find("nopae")
    assert kernel is not None
    console = tmp_path / "console"
    command = [
        "qemu-system-i386", "-accel", "tcg", "-cpu", processor, "-m", "128", "-nodefaults", "-display", "none",
        "-no-reboot", "-serial", f"file:{console}", "-device", "virtio-serial-pci",
        "-kernel", str(kernel.bzimage), "-initrd", str(kernel.initrd),
        "-append", "console=ttyS0 earlyprintk=serial,ttyS0,115200 panic=-1",
    ]  # fmt: skip
    with subprocess.Popen(command) as qemu:
        try:
            deadline = time.monotonic() + 120
            while said not in (text := console.read_text(errors="replace") if console.exists() else ""):
                assert time.monotonic() < deadline, text[-2000:]
                assert qemu.poll() is None, text[-2000:]
                time.sleep(0.1)
        finally:
            qemu.kill()

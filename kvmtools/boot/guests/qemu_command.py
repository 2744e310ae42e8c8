"""The QEMU command line of a guest: data in, words out, nothing touched.

What every guest has, whatever its kernel:

* its RAM in one shared file (``memory-backend-file,share=on``), which we read without asking QEMU;
* QMP twice, because a monitor serves one client at a time: ours, and one for the user's own drgn;
* a gdb stub, all on unix sockets in the guest's private directory;
* ``vmcoreinfo`` over fw_cfg, which is how the kernel tells where KASLR put it;
* two serial ports: the console goes to a file; the agent listens on a virtio one, for under TCG a 16550 moves
  0.5 MB/s and a virtio port twenty and more.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.host.qemu import QEMU, escaped
from kvmtools.errors import UsageError

MIB = 1 << 20
GIB = 1 << 30
SMALLEST_MEMORY = 64 * MIB
# 36 physical address bits less the PCI hole below 4 GiB, and room above RAM for 64-bit PCI windows.
LARGEST_MEMORY = 60 * GIB
# hw/i386/pc_piix.c: a machine with more has its RAM split at the PCI hole, and the rest above 4 GiB.
MEMORY_BELOW_4G = 3584 * MIB
MOST_CPUS = 255  # the machine type's own limit
# Everything the accelerator has: NX, PGE, PSE, PAT, PSE-36 and 36 physical address bits among it.  TCG calls
# that an AMD K7, which taints an SMP kernel (6.1 arch/x86/kernel/cpu/amd.c, init_amd_k7); called an old
# Intel, it loses PAT (intel.c, models below 15).  As a Haswell it has PAT, and isolates page tables unasked.
CPU_MODELS = {
    "tcg": "max,vendor=GenuineIntel,family=6,model=60,stepping=3",
    "kvm": "max",
}
_UNITS = {"M": MIB, "G": GIB}


@dataclass(frozen=True)
class QemuMachine:
    """What is to be started.

    :param memory_bytes: size of the guest's RAM, and of the file ``ram``
    :param append: the kernel's command line, complete
    """

    name: str
    accel: str
    memory_bytes: int
    smp: int
    ram: Path
    files: GuestFiles
    bzimage: Path
    initrd: Path | None
    append: str


def command(machine: QemuMachine) -> tuple[str, ...]:
    """QEMU's argument vector for ``machine``, program name first."""
    files = machine.files
    words = [QEMU, "-name", f"kvmtools-{machine.name}"]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-machine", "pc,memory-backend=ram", "-accel", machine.accel]
    words += ["-cpu", CPU_MODELS[machine.accel]]
    words += ["-smp", str(machine.smp), "-m", f"{machine.memory_bytes // MIB}M"]
    ram = f"memory-backend-file,id=ram,share=on,prealloc=off,size={machine.memory_bytes}"
    words += ["-object", f"{ram},mem-path={escaped(machine.ram)}"]
    words += ["-device", "vmcoreinfo"]
    words += [*_listener("qmp", files.qmp), "-mon", "chardev=qmp,mode=control"]
    words += [*_listener("drgn", files.drgn_qmp), "-mon", "chardev=drgn,mode=control"]
    words += [*_listener("gdb", files.gdb), "-gdb", "chardev:gdb"]
    words += [
        "-chardev",
        f"file,id=console,path={escaped(files.console)},append=on",
        "-serial",
        "chardev:console",
    ]
    words += [*_listener("agent", files.agent), "-device", "virtio-serial-pci"]
    words += ["-device", "virtserialport,chardev=agent"]
    words += ["-kernel", os.fspath(machine.bzimage)]
    if machine.initrd is not None:
        words += ["-initrd", os.fspath(machine.initrd)]
    return (*words, "-append", machine.append)


def kernel_command_line(*, pae: bool, accel: str, memory: int, append: str) -> str:
    """The kernel's parameters: our few, then the user's, so that the user's win.

    :param pae: it is our PAE kernel, and shall isolate page tables; it would otherwise decide by the CPU
        (6.1 arch/x86/mm/pti.c), and under KVM that need not be one that leaks
    :param memory: size of the guest's RAM in bytes
    """
    ours = ["console=ttyS0"] + ["pti=on"] * pae
    if accel == "tcg":
        # The watchdog of 7.2 lets two CPUs take turns (kernel/time/clocksource.c, watchdog_check_skew).  Early in the
        # boot its clock stands still meanwhile, and on a busy host they were seen to wait for each other for ever.
        ours.append("tsc=reliable")
    if pae and accel == "tcg" and memory > MEMORY_BELOW_4G:
        # The MMU of qemu-system-i386 (TCG, 7.2) drops bit 32 and above of a page table's address.  A process whose
        # tables lie there (CONFIG_HIGHPTE) faults for ever, and what lies at the cut address gets A and D bits.
        ours.append("userpte=nohigh")
    return " ".join([*ours, *append.split()])


def memory_bytes(text: str) -> int:
    """Parse ``64M`` … ``60G`` (binary units) to bytes.

    :raises UsageError: if it is not a size, not whole MiB, or out of QEMU's i386 range
    """
    match = re.fullmatch(r"(\d+)([MG])(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"'{text}' is no memory size", hint="write it like 512M or 2G")
    size = int(match[1]) * _UNITS[match[2].upper()]
    if not SMALLEST_MEMORY <= size <= LARGEST_MEMORY:
        raise UsageError(
            f"memory of {text} is out of range",
            hint="an i386 guest takes 64M to 60G (36 physical address bits, less the PCI hole)",
        )
    return size


def memory_text(size: int) -> str:
    """The inverse of :func:`memory_bytes`: ``2G``, ``1536M``."""
    return f"{size // GIB}G" if size % GIB == 0 else f"{size // MIB}M"


def _listener(name: str, path: Path) -> list[str]:
    return ["-chardev", f"socket,id={name},path={escaped(path)},server=on,wait=off"]

"""Starting a guest: it ends with a guest that answers, or leaves nothing behind.

No process, no socket, no RAM file, whether it failed, timed out or was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmtools.boot.guests import chosen_kernel, ram_location, readiness, record, registry
from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.guests.qemu_command import (
    MOST_CPUS,
    QemuMachine,
    command,
    kernel_command_line,
    memory_bytes,
    memory_text,
)
from kvmtools.boot.guests.record import Guest
from kvmtools.boot.host import accelerator as accelerators
from kvmtools.boot.host import detached
from kvmtools.boot.host.interrupts import ending_raises, held
from kvmtools.boot.host.qemu import QEMU
from kvmtools.errors import AttachError, BuildError, UsageError


def silent(line: str) -> None:
    """The default progress: none."""


def start(
    name: str,
    *,
    kernel: str = "pae",
    vmlinux: Path | None = None,
    initrd: Path | None = None,
    memory: str = "2G",
    smp: int = 2,
    append: str = "",
    accel: str = "auto",
    progress: Callable[[str], None] = silent,
    timeout: float = 120.0,
) -> Guest:
    """Boot a guest and wait until it answers: our kernels through their agent, any other as soon as QMP does.

    :param kernel: ``pae``, ``nopae`` (built first if need be), or the path of a kernel image
    :param vmlinux: the symbols of a kernel given by path; ``initrd`` its initial ramdisk, if it has one
    :param memory: ``64M`` … ``60G``
    :param append: kernel parameters, after ours
    :param accel: ``auto``, ``tcg`` or ``kvm``
    :param timeout: seconds from QEMU's start until the guest must answer
    :raises UsageError: if the request makes no sense, or a guest of that name runs already
    :raises AttachError: if QEMU refuses, the guest does not answer in time, or the disk is full
    :raises BuildError: if QEMU is missing, or the kernel cannot be built
    """
    size = memory_bytes(memory)
    if not 1 <= smp <= MOST_CPUS:
        raise UsageError(f"{smp} CPUs are out of range", hint=f"a guest takes 1 to {MOST_CPUS}")
    GuestFiles(registry.directory_of(name)).check_lengths()
    if shutil.which(QEMU) is None:
        raise BuildError(f"there is no {QEMU} on this machine", hint="apt install qemu-system-x86")
    with ending_raises():
        image = chosen_kernel.choose(kernel, vmlinux, initrd, progress)
        try:
            with registry.claimed(name) as directory, _all_or_nothing(name):
                chosen = accelerators.resolve(accel, progress)
                ram = ram_location.create(name, directory, size)
                parameters = kernel_command_line(pae=image.pae, accel=chosen, memory=size, append=append)
                machine = QemuMachine(
                    name,
                    chosen,
                    size,
                    smp,
                    ram,
                    GuestFiles(directory),
                    image.bzimage,
                    image.initrd,
                    parameters,
                )
                progress(
                    f"booting {name}: {kernel}, {memory_text(size)}, {smp} CPU{'s' * (smp != 1)}, {chosen}"
                )
                guest = _launch(machine, kernel, image.vmlinux)
                readiness.wait(guest, has_agent=image.ours, seconds=timeout, progress=progress)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise AttachError(
                f"guest '{name}' cannot be started: {error.strerror or error}{where}"
            ) from error
    return guest


@contextmanager
def _all_or_nothing(name: str) -> Iterator[None]:
    """If the start fails, end its QEMU and remove its files; the caller holds the folder."""
    try:
        yield
    except BaseException:
        with held():
            guest = registry.look(name)
            if isinstance(guest, Guest):
                # Nothing in it is worth waiting for.
                detached.end(guest.pid, guest.started, patience=0)
            registry.remove(name)
        raise


def _launch(machine: QemuMachine, kernel: str, vmlinux: Path) -> Guest:
    files = machine.files
    words = command(machine)
    # Nothing may come between the process and the note of its pid.
    with held():
        pid, started = detached.spawn_detached(words, files.qemu_log)
        guest = Guest(
            name=machine.name,
            pid=pid,
            started=started,
            directory=files.directory,
            qmp=files.qmp,
            drgn_qmp=files.drgn_qmp,
            gdb=files.gdb,
            agent=files.agent,
            console=files.console,
            ram=machine.ram,
            memory_bytes=machine.memory_bytes,
            smp=machine.smp,
            kernel=kernel,
            vmlinux=vmlinux,
            accel=machine.accel,
            command=words,
        )
        try:
            record.write(guest)
        except BaseException:
            # Nobody would ever find it.
            detached.end(pid, started, patience=0)
            raise
    return guest

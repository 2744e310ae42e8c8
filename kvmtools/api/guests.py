"""A guest for the length of a ``with``: built, booted, and stopped whatever happens; and which there are elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.errors import AttachError, BuildError, UsageError

if TYPE_CHECKING:
    from kvmtools.boot.guests.record import Guest


@contextmanager
def booted(
    name: str,
    *,
    kernel: str = "pae",
    memory: str = "2G",
    smp: int = 2,
    append: str = "",
    symbols: Path | None = None,
    initrd: Path | None = None,
    timeout: float = 120.0,
) -> Iterator[Guest]:
    """Boot a guest under ``name`` and stop it at the end; its kernel is built the first time, which takes minutes.

    :param kernel: ``"pae"``, ``"nopae"``, the path of a kernel image, or of the folder that it was built in
    :param memory: RAM, ``"64M"`` to ``"60G"``
    :param smp: number of CPUs
    :param append: kernel parameters
    :param symbols: the vmlinux of an image that is none of ours, ``initrd`` its initial ramdisk
    :param timeout: seconds until the guest must answer
    :raises UsageError: if the name is taken, or the memory makes no sense
    :raises BuildError: if there is no kernel and none can be built
    :raises AttachError: if the guest does not come up
    """
    from kvmtools.boot.guests import lifecycle

    with lifecycle.booted(
        name,
        kernel=kernel,
        vmlinux=symbols,
        initrd=initrd,
        memory=memory,
        smp=smp,
        append=append,
        timeout=timeout,
    ) as guest:
        yield guest


def hindrance(kernel: str, *, symbols: Path | None = None, initrd: Path | None = None) -> str:
    """Why :func:`booted` cannot boot this kernel here and at once; empty if it can.

    A kernel of ours that would first have to be built is one reason.
    """
    from kvmtools.boot.guests import chosen_kernel
    from kvmtools.boot.host.qemu import QEMU
    from kvmtools.boot.kernels import reference

    if shutil.which(QEMU) is None:
        return f"there is no {QEMU} on this machine"
    try:
        if kernel in reference.KNOWN and reference.find(kernel) is None:
            return f"the kernel '{kernel}' is not built: kvmtools guest build {kernel}"
        chosen_kernel.choose(kernel, symbols, initrd, lambda _line: None)
    except (UsageError, BuildError) as refusal:
        return str(refusal)
    return ""


def libvirt_domains(connect: str | None = None) -> list[str]:
    """The libvirt domains that run; none if libvirt cannot be asked.

    :param connect: libvirt's URI, as for ``virsh -c``; without one, libvirt's own default
    """
    from kvmtools.attach.monitor.libvirt_carrier import Virsh

    try:
        return Virsh(connect).domains()
    except AttachError:
        return []

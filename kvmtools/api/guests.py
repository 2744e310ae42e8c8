"""A guest for the length of a ``with``: built, booted, and stopped whatever happens; and which there are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvmtools.errors import AttachError

if TYPE_CHECKING:
    from kvmtools.boot.guests.record import Guest


@contextmanager
def booted(name: str, *, kernel: str = "pae", memory: str = "2G", append: str = "") -> Iterator[Guest]:
    """Boot a guest under ``name`` and stop it at the end; its kernel is built the first time, which takes minutes.

    :param kernel: ``"pae"``, ``"nopae"``, or the path of a bzImage that ``kvmtools guest build`` made
    :param memory: RAM, ``"64M"`` to ``"60G"``
    :param append: kernel parameters
    :raises UsageError: if the name is taken, or the memory makes no sense
    :raises BuildError: if there is no kernel and none can be built
    :raises AttachError: if the guest does not come up
    """
    from kvmtools.boot.guests import lifecycle

    with lifecycle.booted(name, kernel=kernel, memory=memory, append=append) as guest:
        yield guest


def libvirt_domains(connect: str | None = None) -> list[str]:
    """The libvirt domains that run; none if libvirt cannot be asked.

    :param connect: libvirt's URI, as for ``virsh -c``; without one, libvirt's own default
    """
    from kvmtools.attach.monitor.libvirt_carrier import Virsh

    try:
        return Virsh(connect).domains()
    except AttachError:
        return []

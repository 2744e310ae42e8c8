"""The way to a guest that was named: a running QEMU, or a core."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.errors import UsageError

if TYPE_CHECKING:
    from socket import socket

    from kvmtools.attach.monitor.monitor import Monitor
    from kvmtools.attach.monitor.user_gdb import Ask
    from kvmtools.attach.target import Target


SEED = "KVMTOOLS_SEED"
"""The environment variable with the seed of the proof, to look at the same pages again."""


def open_target(
    *,
    qemu: str | None = None,
    libvirt: str | None = None,
    connect: str | None = None,
    gdb: str | None = None,
    demand_gdb: bool = True,
    ram: Path | None = None,
    core: Path | None = None,
    vmlinux: Path | None = None,
    pause: bool = True,
    seed: int | None = None,
) -> Target:
    """Attach to a running QEMU, or open a core.

    :param qemu: address of a QMP or human monitor socket: a path, or ``host:port``
    :param libvirt: a domain's name, UUID or number, instead of ``qemu``
    :param connect: the URI of its libvirt, if it is not the default one
    :param gdb: address of the same QEMU's gdbstub, which is enough on its own
    :param demand_gdb: whether there must be one at ``gdb`` before anybody asks for it
    :param ram: its shared RAM file; without it QEMU is asked, and without any its process is read
    :param core: an ELF core, instead of a QEMU
    :param pause: whether :meth:`Target.paused` may stop the guest
    :param seed: of the choice of pages by which a way to its memory proves itself, as an earlier proof told it; by
        default :data:`SEED` of the environment, else any
    :raises UsageError: unless one guest is named, or if it must not be stopped and only ``gdb`` is given
    :raises AttachError: if there is no way to it
    """
    if [qemu, libvirt, core].count(None) < 2 or [qemu, libvirt, core, gdb].count(None) == 4:
        raise UsageError(
            "name one guest: a monitor's or gdb's socket, a libvirt domain or a core",
            hint="--qemu ADDRESS, --gdb ADDRESS, --libvirt DOMAIN or --core FILE",
        )
    if core is not None and (gdb is not None or ram is not None):
        raise UsageError("a core has neither a gdb socket nor a RAM file")
    if core is not None:
        from kvmtools.attach.core_target import CoreTarget

        return CoreTarget(core, vmlinux=vmlinux)
    from kvmtools.attach.live_target import LiveTarget
    from kvmtools.attach.monitor.address import demand_socket, plain

    # Before anything is attached.
    seed = _given() if seed is None else seed
    gdb = None if gdb is None else plain(gdb)
    if gdb is not None and demand_gdb:
        demand_socket(gdb, "gdb")
    if gdb is not None and qemu is None and libvirt is None:
        return LiveTarget(_stub(gdb, pause), ram=ram, vmlinux=vmlinux, seed=seed)
    return LiveTarget(
        _monitor(qemu, libvirt, connect),
        gdb=gdb,
        demand_gdb=demand_gdb,
        ram=ram,
        vmlinux=vmlinux,
        pause=pause,
        seed=seed,
    )


def target_in_gdb(ask: Ask, address: str, connection: socket | None, *, vmlinux: Path | None) -> Target:
    """The guest whose gdbstub a user's own gdb holds; see :class:`kvmtools.attach.monitor.user_gdb.UserGdbMonitor`.

    :raises AttachError: if there is no way to it
    """
    from kvmtools.attach.live_target import LiveTarget
    from kvmtools.attach.monitor.user_gdb import UserGdbMonitor

    return LiveTarget(UserGdbMonitor(ask, address, connection), vmlinux=vmlinux, seed=_given())


def _monitor(qemu: str | None, libvirt: str | None, connect: str | None) -> Monitor:
    """The way to ask the QEMU that is named."""
    if libvirt is not None:
        from kvmtools.attach.monitor.libvirt_domain import LibvirtMonitor

        return LibvirtMonitor(libvirt, connect)
    from kvmtools.attach.monitor.connecting import open_monitor

    assert qemu is not None
    return open_monitor(qemu)


def _stub(gdb: str, pause: bool) -> Monitor:
    if not pause:
        raise UsageError(
            "a gdbstub stops its guest for every question, which --no-pause (pause=False) forbids",
            hint="give QEMU's monitor with --qemu",
        )
    from kvmtools.attach.monitor.stub_monitor import StubMonitor

    return StubMonitor(gdb)


def _given() -> int | None:
    text = os.environ.get(SEED)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{SEED} is '{text}'", hint="it takes the number that a proof tells as its seed")
    return int(text)

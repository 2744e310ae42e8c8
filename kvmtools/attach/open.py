"""The way to a guest that was named: a running QEMU, or a core."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.errors import UsageError

if TYPE_CHECKING:
    from kvmtools.attach.target import Target


SEED = "KVMTOOLS_SEED"
"""The environment variable with the seed of the proof, to look at the same pages again."""


def open_target(
    *,
    qemu: str | None = None,
    gdb: str | None = None,
    demand_gdb: bool = True,
    ram: Path | None = None,
    core: Path | None = None,
    vmlinux: Path | None = None,
    pause: bool = True,
    seed: int | None = None,
) -> Target:
    """Attach to a running QEMU, or open a core.

    :param qemu: address of a QMP socket: a path, or ``host:port``
    :param gdb: address of the same QEMU's gdbstub
    :param demand_gdb: whether there must be one at ``gdb`` before anybody asks for it
    :param ram: its shared RAM file; without it QEMU is asked, and without any its process is read
    :param core: an ELF core, instead of a QEMU
    :param pause: whether :meth:`Target.paused` may stop the guest
    :param seed: of the choice of pages by which a way to its memory proves itself, as an earlier proof told it; by
        default :data:`SEED` of the environment, else any
    :raises UsageError: unless exactly one of ``qemu`` and ``core`` is given
    :raises AttachError: if there is no way to it
    """
    if (qemu is None) == (core is None):
        raise UsageError("name one guest: a QMP socket or a core", hint="--qemu SOCKET, or --core FILE")
    if qemu is None and (gdb is not None or ram is not None):
        raise UsageError("a core has neither a gdb socket nor a RAM file")
    if core is not None:
        from kvmtools.attach.core_target import CoreTarget

        return CoreTarget(core, vmlinux=vmlinux)
    from kvmtools.attach.live_target import LiveTarget

    assert qemu is not None
    return LiveTarget(
        qemu,
        gdb=gdb,
        demand_gdb=demand_gdb,
        ram=ram,
        vmlinux=vmlinux,
        pause=pause,
        seed=_given() if seed is None else seed,
    )


def _given() -> int | None:
    text = os.environ.get(SEED)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{SEED} is '{text}'", hint="it takes the number that a proof tells as its seed")
    return int(text)

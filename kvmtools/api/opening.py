"""The way to one guest's kernel: ``kvmtools.open()``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session
from kvmtools.errors import AttachError, UsageError

if TYPE_CHECKING:
    from socket import socket

    from kvmtools.attach.target import Target
    from kvmtools.observe.kernel import Kernel


def open_kernel(
    *,
    guest: str | None = None,
    qemu: str | None = None,
    libvirt: str | None = None,
    connect: str | None = None,
    gdb: str | None = None,
    core: str | Path | None = None,
    symbols: str | Path | None = None,
    pause: bool = True,
) -> OpenKernel:
    """Attach to a guest and find its kernel; the result is a context manager that lets go at its end.

    Without any of ``guest``, ``qemu``, ``libvirt``, ``gdb`` and ``core`` it is the one guest of ours that runs.

    :param guest: the name of a guest that ``kvmtools guest start`` or :func:`kvmtools.booted` started
    :param qemu: monitor socket (QMP or human) of anybody's QEMU: a path, or ``host:port``
    :param libvirt: name, UUID or number of a libvirt domain that runs
    :param connect: the URI of its libvirt, as for ``virsh -c``, if it is not the default one
    :param gdb: that QEMU's gdb socket, which is enough: on its own, everything is asked through it
    :param core: an ELF core by ``dump-guest-memory``; or by :meth:`OpenKernel.snapshot`, which needs no ``symbols``
    :param symbols: the kernel's vmlinux or vmlinuz, or a folder to look in; what it lacks is looked for by its build
        id, and so is all of it if this is left out (docs/symbols.md); a guest of ours is known with its own
    :param pause: hold the guest for the milliseconds in which it is read; if not, what changed meanwhile may look wrong
    :raises UsageError: if two targets are named
    :raises AttachError: if there is no way to the guest
    :raises SymbolsError: if there is no vmlinux, it has no DWARF and none is found, or it is not the guest's
    """
    target, console = _target(
        guest=guest,
        qemu=qemu,
        libvirt=libvirt,
        connect=connect,
        gdb=gdb,
        core=_path(core),
        symbols=_path(symbols),
        pause=pause,
    )
    return _opened(target, console, demand_gdb=gdb is not None)


def open_in_gdb(
    ask: Callable[[str], str], address: str, connection: socket | None, *, symbols: str | Path | None
) -> OpenKernel:
    """The kernel of a guest whose gdbstub a user's own gdb holds; see :mod:`kvmtools.attach.monitor.user_gdb`."""
    from kvmtools.attach.open import target_in_gdb

    return _opened(target_in_gdb(ask, address, connection, vmlinux=_path(symbols)))


def _opened(target: Target, console: Path | None = None, *, demand_gdb: bool = False) -> OpenKernel:
    try:
        session = Session(target, _kernel(target), console=console)
        return OpenKernel(session, demand_gdb=demand_gdb)
    except BaseException:
        target.close()
        raise


def _kernel(target: Target) -> Kernel:
    """The kernel that runs there, with its vmlinux, which is looked for unless the target names it."""
    from kvmtools.observe.kernel import find_kernel, locate
    from kvmtools.observe.symbols.vmlinux import Vmlinux

    path = target.vmlinux
    if target.recording is not None:
        from kvmtools.observe.recorded import recorded_kernel

        return recorded_kernel(target.memory, target.recording, path)
    if path is None or path.is_dir():
        return find_kernel(target.memory, path, target.vmcoreinfo(), target.registers())
    return locate(target.memory, Vmlinux.load(path), target.vmcoreinfo(), target.registers())


def _target(
    *,
    guest: str | None,
    qemu: str | None,
    libvirt: str | None,
    connect: str | None,
    gdb: str | None,
    core: Path | None,
    symbols: Path | None,
    pause: bool,
) -> tuple[Target, Path | None]:
    """The one target that is named; of a guest of ours, what its kernel printed."""
    from kvmtools.attach.open import open_target

    ways = {"guest": guest, "qemu": qemu, "libvirt": libvirt, "core": core}
    named = [name for name, value in ways.items() if value is not None]
    if len(named) > 1:
        raise UsageError(
            f"{named[0]} and {named[1]} name two targets",
            hint="give one of guest (-g), qemu, libvirt and core (-c)",
        )
    if gdb is not None and named not in ([], ["qemu"], ["libvirt"]):
        raise UsageError(
            f"{named[0]} and gdb name two targets", hint="a guest of ours is known with its GDB socket"
        )
    if connect is not None and libvirt is None:
        raise UsageError("connect goes with libvirt", hint="name the domain with --libvirt DOMAIN")
    if core is not None:
        return open_target(core=core, vmlinux=symbols), None
    if qemu is not None or libvirt is not None or gdb is not None:
        return open_target(
            qemu=qemu, libvirt=libvirt, connect=connect, gdb=gdb, vmlinux=symbols, pause=pause
        ), None

    from kvmtools.boot.guests import registry

    ours = registry.find(guest if guest is not None else _only_guest())
    target = open_target(
        qemu=str(ours.qmp),
        gdb=str(ours.gdb),
        demand_gdb=False,
        ram=ours.ram,
        vmlinux=symbols or ours.vmlinux,
        pause=pause,
    )
    return target, ours.console


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _only_guest() -> str:
    """The name of the guest that is meant when none is named: the one that runs."""
    from kvmtools.boot.guests import registry

    running = registry.all_guests()
    if len(running) == 1:
        return running[0].name
    if running:
        raise UsageError(
            "several guests run: " + ", ".join(guest.name for guest in running), hint="name one with -g NAME"
        )
    raise AttachError(
        "no target is named and no guest of ours runs",
        hint="start one with `kvmtools guest start pae`, or give --qemu, --gdb or -c CORE with -s VMLINUX",
    )

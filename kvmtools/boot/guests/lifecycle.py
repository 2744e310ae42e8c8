"""The life of a guest: started by one command, found by any later one, stopped by a third.

A start either ends with a guest that answers, or leaves nothing behind: no process, no socket, no RAM file,
whether it failed, timed out or was interrupted.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.guests import ram_location, readiness, registry
from kvmtools.boot.guests.files import GuestFiles
from kvmtools.boot.guests.qemu_command import (
    MOST_CPUS,
    QemuMachine,
    command,
    kernel_command_line,
    memory_bytes,
    memory_text,
)
from kvmtools.boot.guests.registry import Guest, Obituary
from kvmtools.boot.host import accelerator as accelerators
from kvmtools.boot.host import detached
from kvmtools.boot.host.accelerator import QEMU
from kvmtools.boot.host.interrupts import ending_raises, held
from kvmtools.errors import AttachError, BuildError, GuestVanished, KvmtoolsError, UsageError

__all__ = [
    "Guest",
    "GuestState",
    "Obituary",
    "Vcpu",
    "all_guests",
    "booted",
    "find",
    "start",
    "state",
    "stop",
    "sweep",
]

_MONITOR_SECONDS = 3.0  # QEMU greets at once, unless it serves another client


@dataclass(frozen=True)
class Vcpu:
    """One virtual CPU: its index in the guest, and the host thread that runs it."""

    index: int
    thread_id: int


@dataclass(frozen=True)
class GuestState:
    """What QEMU says of a guest now.

    :ivar status: QMP's word, such as ``running`` or ``paused``; ``busy`` if another client holds the monitor
    :ivar ram_touched_bytes: how much of the RAM file really exists
    """

    status: str
    vcpus: tuple[Vcpu, ...]
    uptime_seconds: float
    ram_touched_bytes: int


@dataclass(frozen=True)
class _Kernel:
    """What to boot; ``ours`` has the agent inside, ``pae`` is our PAE kernel."""

    bzimage: Path
    initrd: Path | None
    vmlinux: Path
    pae: bool
    ours: bool


def _silent(line: str) -> None:
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
    progress: Callable[[str], None] = _silent,
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
    :raises AttachError: if QEMU refuses, or the guest does not answer in time
    :raises BuildError: if QEMU is missing, or the kernel cannot be built
    """
    size = memory_bytes(memory)
    if not 1 <= smp <= MOST_CPUS:
        raise UsageError(f"{smp} CPUs are out of range", hint=f"a guest takes 1 to {MOST_CPUS}")
    files = GuestFiles(registry.directory_of(name))
    files.check_lengths()
    if shutil.which(QEMU) is None:
        raise BuildError(f"there is no {QEMU} on this machine", hint="apt install qemu-system-x86")
    with ending_raises():
        image = _kernel(kernel, vmlinux, initrd, progress)
        with registry.locked(name, create=True):
            _clear_the_place(name)
            chosen = accelerators.resolve(accel, progress)
            try:
                ram_file = ram_location.create(name, files.directory, size)
                parameters = kernel_command_line(pae=image.pae, accel=chosen, memory=size, append=append)
                machine = QemuMachine(
                    name, chosen, size, smp, ram_file, files, image.bzimage, image.initrd, parameters
                )
                progress(
                    f"booting {name}: {kernel}, {memory_text(size)}, {smp} CPU{'s' * (smp != 1)}, {chosen}"
                )
                guest = _launch(machine, kernel, image.vmlinux)
                readiness.wait(guest, has_agent=image.ours, seconds=timeout, progress=progress)
            except BaseException:
                with held():
                    _undo(name)
                raise
    return guest


@contextlib.contextmanager
def booted(
    name: str,
    *,
    kernel: str,
    memory: str = "2G",
    append: str = "",
    accel: str = "auto",
    progress: Callable[[str], None] = _silent,
) -> Iterator[Guest]:
    """A guest for the length of a ``with``; see :func:`start` for the arguments and exceptions."""
    guest = start(name, kernel=kernel, memory=memory, append=append, accel=accel, progress=progress)
    try:
        yield guest
    finally:
        stop(guest)


def _kernel(
    kernel: str, vmlinux: Path | None, initrd: Path | None, progress: Callable[[str], None]
) -> _Kernel:
    from kvmtools.boot.kernels import reference

    if kernel in reference.KNOWN:
        if vmlinux is not None or initrd is not None:
            raise UsageError(
                f"the kernel '{kernel}' has symbols and an initrd of its own",
                hint="leave out -s and --initrd",
            )

        built = reference.ensure(kernel, progress=progress)
        return _Kernel(built.bzimage, built.initrd, built.vmlinux, pae=built.pae, ours=True)
    image = Path(kernel).absolute()
    for built in reference.listing():
        # One that was built from another source is ours as well, with all that belongs to it.
        if image == built.bzimage and vmlinux is None and initrd is None:
            return _Kernel(image, built.initrd, built.vmlinux, pae=built.pae, ours=True)
    if not image.is_file():
        raise UsageError(
            f"there is no kernel '{kernel}'",
            hint=f"{', '.join(reference.KNOWN)}, or the path of a kernel image",
        )
    if vmlinux is None:
        raise UsageError(f"the kernel '{kernel}' needs its symbols", hint="give its vmlinux with -s")
    for role, path in (("vmlinux", vmlinux), ("initrd", initrd)):
        if path is not None and not path.is_file():
            raise UsageError(f"there is no {role} '{path}'")
    ramdisk = initrd.absolute() if initrd is not None else None
    return _Kernel(image, ramdisk, vmlinux.absolute(), pae=False, ours=False)


def _clear_the_place(name: str) -> None:
    """Remove what an earlier guest of this name left; the caller holds the lock."""
    earlier = registry.load(name)
    if earlier is not None and earlier.alive:
        raise UsageError(
            f"guest '{name}' is already running (QEMU pid {earlier.pid})",
            hint=f"choose another name, or stop it: kvmtools guest stop {name}",
        )
    registry.remove(name)


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
        registry.save(guest)
    return guest


def _undo(name: str) -> None:
    """Take back a start that failed; the caller holds the lock."""
    guest = registry.load(name)
    if guest is not None:
        # There is nothing in it worth a goodbye.
        detached.end(guest.pid, guest.started, patience=0)
    registry.remove(name)


def find(name: str) -> Guest:
    """The running guest of that name.

    :raises GuestVanished: if its QEMU died; what it left is cleaned up
    :raises AttachError: if there is none; the hint names those that run
    """
    guest = registry.load(name)
    if guest is not None and guest.alive:
        return guest
    obituary = registry.bury(name)
    if obituary is not None:
        raise GuestVanished(str(obituary), hint=f"start it again: kvmtools guest start {name}")
    running = ", ".join(other.name for other in all_guests())
    raise AttachError(
        f"no guest '{name}' is running",
        hint=f"running: {running}" if running else f"start it: kvmtools guest start {name}",
    )


def all_guests() -> list[Guest]:
    """The guests that run, by name."""
    found = (registry.load(name) for name in registry.names())
    return [guest for guest in found if guest is not None and guest.alive]


def sweep() -> list[Obituary]:
    """Clean up after every guest whose QEMU died, and tell what became of each."""
    buried = (registry.bury(name) for name in registry.names())
    return [obituary for obituary in buried if obituary is not None]


def state(guest: Guest) -> GuestState:
    """What QEMU says of ``guest`` now.

    :raises AttachError: if it is gone; :class:`GuestVanished` if its QEMU died
    """
    from kvmtools.attach.monitor.qmp import Monitor

    vcpus: tuple[Vcpu, ...] = ()
    try:
        with Monitor(str(guest.qmp), greeting_seconds=_MONITOR_SECONDS) as monitor:
            status = str(monitor.command("query-status")["status"])
            answer = monitor.command("query-cpus-fast")
        vcpus = tuple(Vcpu(int(cpu["cpu-index"]), int(cpu["thread-id"])) for cpu in answer)
    except AttachError:
        find(guest.name)
        status = "busy"
    return GuestState(
        status, vcpus, detached.uptime_seconds(guest.started), ram_location.touched_bytes(guest.ram)
    )


def stop(guest: Guest, *, patience: float = 3.0) -> None:
    """End a guest, as politely as it lets us, and remove what it had.

    Its own ``poweroff``, QMP ``quit``, SIGTERM and SIGKILL each get ``patience`` seconds.  A guest that is
    already gone is only cleaned up.

    :raises UsageError: if another process is starting or stopping it, and does not come to an end
    """
    for ask_politely in (_power_off, _quit):
        if not guest.alive:
            break
        with contextlib.suppress(KvmtoolsError, OSError):
            if ask_politely(guest, patience):
                detached.wait_for_end(guest.pid, guest.started, patience)
    detached.end(guest.pid, guest.started, patience=patience)
    with registry.locked(guest.name, wait=5.0) as directory:
        # Whoever was starting it may have cleaned up already, and started anew.
        if directory is not None and registry.load(guest.name) == guest:
            registry.remove(guest.name)


def _power_off(guest: Guest, patience: float) -> bool:
    """Ask the guest itself; whether it was in a state to hear it."""
    from kvmtools.attach.monitor.qmp import Monitor
    from kvmtools.boot.guests.agent import Agent
    from kvmtools.boot.kernels import reference

    if guest.kernel not in reference.KNOWN:
        return False
    with Monitor(str(guest.qmp), greeting_seconds=patience) as monitor:
        if not monitor.command("query-status")["running"]:
            return False
    Agent(guest.agent, timeout=patience).poweroff()
    return True


def _quit(guest: Guest, patience: float) -> bool:
    from kvmtools.attach.monitor.qmp import Monitor

    with Monitor(str(guest.qmp), greeting_seconds=patience) as monitor:
        monitor.command("quit")
    return True

"""Guests as text for people and as JSON for programs."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from kvmtools.show import tables
from kvmtools.show.gaps import UNKNOWN
from kvmtools.show.printable import brief

if TYPE_CHECKING:
    from kvmtools.boot.guests.guest_state import GuestState
    from kvmtools.boot.guests.record import Guest
    from kvmtools.boot.kernels.reference import BuiltKernel

_IN_GDB = "-x \"$(kvmtools gdb-script)\" -ex 'kvm symbols'"
"""KASLR moves the kernel: gdb's own symbols would lead nowhere."""


def to_dict(guest: Guest, state: GuestState) -> dict[str, Any]:
    """One guest, its record and its state; sizes in bytes, times in seconds."""
    from kvmtools.boot.guests import record

    return {
        **record.as_json(guest),
        "status": state.status,
        "panic": state.panic or None,
        "uptime_seconds": round(state.uptime_seconds, 1),
        "ram_touched_bytes": state.ram_touched_bytes,
        "vcpus": [{"index": cpu.index, "thread_id": cpu.thread_id} for cpu in state.vcpus],
    }


def details(guest: Guest, state: GuestState) -> str:
    """One guest in full, and the commands that attach to it."""
    touched = UNKNOWN if state.ram_touched_bytes is None else tables.size(state.ram_touched_bytes)
    threads = ", ".join(f"{cpu.index}: thread {cpu.thread_id}" for cpu in state.vcpus)
    rows = [
        ("kernel", guest.kernel),
        ("symbols", str(guest.vmlinux)),
        ("QEMU", f"pid {guest.pid}, {guest.accel}"),
        ("memory", f"{tables.size(guest.memory_bytes)} in {guest.ram}, {touched} touched"),
        ("CPUs", f"{guest.smp}  ({threads})" if threads else str(guest.smp)),
        ("console", str(guest.console)),
        ("QMP", f"{guest.qmp} (ours), {guest.drgn_qmp} (yours)"),
        ("GDB", str(guest.gdb)),
        ("attach", f"kvmtools check -g {guest.name}"),
        *(("", line) for line in _with_the_vmlinux(guest)),
        ("", f"kvmtools shell -g {guest.name}   (drgn that translates i386 virtual addresses)"),
    ]
    if state.panic:
        rows.insert(0, ("panic", brief(state.panic)))
    head = f"{guest.name}: {_word(state)}, up {duration(state.uptime_seconds)}"
    return "\n".join([head, *(f"  {key:<9}{value}" for key, value in rows)])


def _with_the_vmlinux(guest: Guest) -> Sequence[str]:
    """What other programs attach with; nothing if they cannot read it."""
    from kvmtools.boot.kernels.kernel_folder import is_packed

    if guest.vmlinux is not None and is_packed(guest.vmlinux):
        return ()
    vmlinux = _quoted(guest.vmlinux)
    return (
        f"gdb {vmlinux} -ex {quote(f'target remote {guest.gdb}')} {_IN_GDB}",
        f"drgn --qemu {_quoted(guest.drgn_qmp)} -s {vmlinux}",
    )


def guest_table(running: Sequence[tuple[Guest, GuestState]]) -> str:
    """The guests that run, one a line."""
    if not running:
        return "no guest runs"
    return tables.table(
        tables.columns("guest state >pid kernel >memory >CPUs accel up"),
        [
            (
                guest.name,
                _word(state),
                guest.pid,
                guest.kernel,
                tables.size(guest.memory_bytes),
                guest.smp,
                guest.accel,
                duration(state.uptime_seconds),
            )
            for guest, state in running
        ],
    )


def kernel_to_dict(kernel: BuiltKernel, current: Collection[str] | None) -> dict[str, Any]:
    """One kernel in the cache.

    :param current: keys of those that ``guest start NAME`` boots; ``None`` if nobody knows
    """
    return {
        "name": kernel.name,
        "release": kernel.release,
        "pae": kernel.pae,
        "built": datetime.fromtimestamp(int(kernel.built), UTC).isoformat(),
        "current": None if current is None else kernel.key in current,
        "bzimage": str(kernel.bzimage),
        "vmlinux": str(kernel.vmlinux),
    }


def kernel_table(built: Sequence[BuiltKernel], current: Collection[str] | None) -> str:
    """The kernels in the cache, one a line; ``current`` as for :func:`kernel_to_dict`."""
    if not built:
        return "no kernel is built; `kvmtools guest build` builds them"
    words = {True: "current", False: "", None: "?"}
    rows = [
        (
            kernel.name,
            kernel.release,
            f"{duration(max(0.0, time.time() - kernel.built))} ago",
            words[None if current is None else kernel.key in current],
            kernel.vmlinux,
        )
        for kernel in built
    ]
    return tables.table(tables.columns("kernel release built current symbols"), rows)


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left = int(seconds)
    parts: list[str] = []
    for unit, size in units:
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _word(state: GuestState) -> str:
    """How the guest is; to QEMU a CPU that spins in ``panic()`` runs."""
    return "panicked" if state.panic else state.status


def _quoted(path: Path | None) -> str:
    return quote(str(path)) if path is not None else "VMLINUX"

"""Which accelerator to use: KVM is believed only after a real boot has printed a byte.

``/dev/kvm`` may open, create a virtual machine and a vCPU, and still never run the guest (nested
virtualisation that is only half there).  So the probe boots QEMU's own BIOS into a ten-byte boot sector that
writes one letter to the serial port.  The verdict holds until the host is booted again or has another QEMU, and is
kept in the cache directory.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.host import detached, qemu
from kvmtools.boot.host.interrupts import ending_raises, held
from kvmtools.boot.host.qemu import QEMU, escaped
from kvmtools.errors import AttachError, UsageError
from kvmtools.paths import cache_dir

CHOICES = ("auto", "tcg", "kvm")
DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# 16-bit code at 0000:7c00, in a floppy's first sector, which ends with the BIOS's signature.
_LETTER = b"K"
_BOOT_CODE = b"".join(
    (
        b"\xba\xf8\x03",  # mov dx, 0x3f8    the first serial port's data register
        b"\xb0" + _LETTER,  # mov al, 'K'
        b"\xee",  # out dx, al
        b"\xfa",  # cli
        b"\xf4",  # hlt
        b"\xeb\xfd",  # jmp to the hlt
    )
)
_FLOPPY = (_BOOT_CODE.ljust(510, b"\0") + b"\x55\xaa").ljust(1440 * 1024, b"\0")


@dataclass(frozen=True)
class Verdict:
    """Whether an accelerator boots a guest, and how we know."""

    works: bool
    reason: str


def resolve(wanted: str, progress: Callable[[str], None]) -> str:
    """The accelerator to start with, ``"tcg"`` or ``"kvm"``; ``auto`` takes KVM if it works.

    :raises UsageError: if ``wanted`` is none of :data:`CHOICES`
    :raises AttachError: if ``kvm`` was asked for by name and does not work
    """
    if wanted not in CHOICES:
        raise UsageError(f"unknown accelerator '{wanted}'", hint=f"one of {', '.join(CHOICES)}")
    if wanted == "tcg":
        return "tcg"
    verdict = kvm_verdict(progress)
    if verdict.works:
        return "kvm"
    if wanted == "kvm":
        raise AttachError(f"KVM does not work here: {verdict.reason}", hint="use --accel tcg, or auto")
    return "tcg"


def kvm_verdict(progress: Callable[[str], None]) -> Verdict:
    """Whether KVM boots a guest on this host; probed once per boot of the host and version of QEMU."""
    if not DEVICE.exists():
        return Verdict(False, f"there is no {DEVICE}")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return Verdict(False, f"{DEVICE} may not be opened by this user (is it in group kvm?)")
    known = _remembered()
    if known is not None:
        return known
    progress("checking once whether KVM really runs a guest")
    verdict = probe("kvm")
    _remember(verdict)
    if not verdict.works:
        progress(f"KVM does not work here ({verdict.reason}): guests run under TCG")
    return verdict


def probe(accel: str, seconds: float = 4.0) -> Verdict:
    """Boot the boot sector under ``accel`` and wait at most ``seconds`` for its letter."""
    with tempfile.TemporaryDirectory(prefix="kvmtools-probe-") as name:
        directory = Path(name)
        floppy, serial, log = directory / "floppy.img", directory / "serial", directory / "qemu.log"
        floppy.write_bytes(_FLOPPY)
        serial.touch()
        command = (
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-accel", accel, "-m", "16M"),
            *("-drive", f"file={escaped(floppy)},if=floppy,format=raw,readonly=on", "-boot", "a"),
            *("-chardev", f"file,id=serial,path={escaped(serial)}", "-serial", "chardev:serial"),
        )
        with ending_raises():
            return _watch(command, serial, log, seconds)


def _watch(command: tuple[str, ...], serial: Path, log: Path, seconds: float) -> Verdict:
    running: list[tuple[int, int]] = []
    try:
        # A signal that was held is raised as the block ends: by then the process is known.
        with held():
            running.append(detached.spawn_detached(command, log))
        ((pid, started),) = running
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _LETTER in serial.read_bytes():
                return Verdict(True, "a test guest booted and wrote to its serial port")
            if detached.wait_for_end(pid, started, 0.05):
                said = log.read_text(errors="replace").strip().splitlines()
                return Verdict(False, said[-1] if said else "QEMU ended without a word")
        return Verdict(False, f"a test guest printed nothing in {seconds:.0f} s")
    finally:
        with held():
            for process in running:
                detached.end(*process, patience=1.0)


def _verdict_file() -> Path:
    return cache_dir() / "kvm-verdict.json"


def _validity() -> dict[str, str]:
    """A verdict holds as long as these are what they were."""
    return {"boot_id": BOOT_ID.read_text().strip(), "qemu": qemu.version()}


def _remembered() -> Verdict | None:
    try:
        data = json.loads(_verdict_file().read_text())
        if not _validity().items() <= data.items():
            return None
        return Verdict(bool(data["works"]), str(data["reason"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no verdict, or one we cannot read: probing again is always right


def _remember(verdict: Verdict) -> None:
    path = _verdict_file()
    data = {**_validity(), "works": verdict.works, "reason": verdict.reason}
    fresh = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # a cache that cannot be used costs another probe
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(data) + "\n")
        fresh.replace(path)

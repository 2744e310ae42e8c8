"""Where things live on this machine: the cache, the run directory, and our own data in ``qemu/``."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from kvmtools.errors import UsageError


def cache_dir() -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/kvmtools``: kernels, initramfs and facts, each keyed by what made it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "kvmtools"


def run_dir() -> Path:
    """The private directory (0700) that holds one folder per running guest.

    :raises UsageError: if it is a link, or belongs to somebody else (a shared ``/tmp`` is not to be trusted)
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = (
        Path(base) / "kvmtools"
        if base
        else Path(os.environ.get("TMPDIR") or "/tmp") / f"kvmtools-{os.getuid()}"
    )
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700, parents=True)
        status = path.lstat()
    except OSError as error:
        raise _unusable(path, f"cannot be used: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise _unusable(path, "is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise _unusable(path, "is not a directory")
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise _unusable(path, "is not private to this user")
    return path


def _unusable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"the run directory {path} {why}",
        hint="move it away, or set XDG_RUNTIME_DIR to a directory of your own",
    )


def data_dir() -> Path:
    """The project's ``qemu/`` folder: beside the package in a checkout, under ``share/`` once installed."""
    checkout = Path(__file__).resolve().parent.parent / "qemu"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "kvmtools" / "qemu"

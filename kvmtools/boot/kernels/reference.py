"""The two reference kernels: found in the cache, or built into it.

An entry is the directory ``kernels/NAME-KEY`` of the cache.  The key is a digest of everything the kernel depends on:
the source's identity, our fragments, the compiler.  So an entry is never out of date, only unused.
An entry appears by one rename or not at all; so does the ramdisk in it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmtools.boot.host.cache_lock import exclusive, unusable
from kvmtools.boot.host.interrupts import ending_raises
from kvmtools.boot.kernels import build, kconfig, ramdisk, sources, toolchain
from kvmtools.boot.kernels.keys import contents, digest
from kvmtools.errors import BuildError, UsageError
from kvmtools.paths import cache_dir, data_dir

NAMES = ("nopae", "pae")
"""The two that everything is shown on."""
VARIANTS = ("numa", "sparse")
"""Built only if somebody asks: several nodes, and ``mem_map`` in sections."""
KNOWN = (*NAMES, *VARIANTS)


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A kernel that can be booted.

    :ivar vmlinux: the image with DWARF, for debuggers
    :ivar config: its ``.config``
    :ivar initrd: the initramfs with our init and our driver
    :ivar key: what it was built from, as a digest; part of the entry's name
    :ivar pae: three-level page tables of 8-byte entries; else two levels of 4-byte entries
    :ivar release: as ``uname -r`` in the guest
    :ivar built: when, in seconds since 1970
    """

    name: str
    bzimage: Path
    vmlinux: Path
    config: Path
    initrd: Path
    key: str
    pae: bool
    release: str
    built: float


def find(name: str, source: Path | None = None) -> BuiltKernel | None:
    """The kernel as it is in the cache, or ``None`` if it would have to be built.

    :param source: a tree or a tarball; without one, the distribution's
    :raises UsageError: if there is no kernel of that name, or ``source`` is no Linux source
    """
    _known(name)
    try:
        located = sources.locate(source)
    except BuildError:
        return None
    entry = _entry(name, located)
    return _load(entry, ramdisk.current(entry))


def listing() -> list[BuiltKernel]:
    """Every complete kernel in the cache, those of other sources and earlier fragments included; by name, then age.

    :raises BuildError: if the cache cannot be read
    """
    found = (_load(entry, ramdisk.newest(entry)) for entry in _entries())
    kernels = (kernel for kernel in found if kernel is not None)
    return sorted(kernels, key=lambda kernel: (kernel.name, kernel.built))


def current_keys() -> frozenset[str] | None:
    """The keys of the kernels that ``guest start NAME`` boots; ``None`` if there is no source to tell them by."""
    try:
        located = sources.locate(None)
    except (BuildError, UsageError):
        return None
    return frozenset(_key(_entry(name, located)) for name in KNOWN)


def damaged() -> list[Path]:
    """The entries of the cache that something came over: they appear whole or not at all.

    :raises BuildError: if the cache cannot be read
    """
    return [entry for entry in _entries() if _facts(entry) is None and not _is_older(entry)]


def older() -> list[Path]:
    """The entries that a kvmtools built which kept nothing to build modules against: no guest boots them any more.

    :raises BuildError: if the cache cannot be read
    """
    return [entry for entry in _entries() if _is_older(entry)]


def ensure(name: str, source: Path | None = None, *, progress: Callable[[str], None]) -> BuiltKernel:
    """The kernel, built first if the cache does not have it.

    Of two that want to build the same, the second waits for the first and takes its result.

    :param progress: gets one line at a time: what is going on
    :raises UsageError: if there is no kernel of that name, or ``source`` is no Linux source
    :raises BuildError: if the build fails; a log is left behind and named, everything else is removed
    """
    _known(name)
    located = sources.locate(source)
    entry = _entry(name, located)
    initrd = ramdisk.current(entry)
    if kernel := _load(entry, initrd):
        return kernel
    with ending_raises(), exclusive(_folder() / name, progress, f"building {name}") as lock:
        try:
            if entry.is_dir() and _facts(entry) is None:
                raise _damaged(entry)
            if ramdisk.archive(initrd) is None:
                _make(name, located, initrd, lock, progress)
        except OSError as error:
            raise _explained(error, entry) from error
    kernel = _load(entry, initrd)
    if kernel is None:
        raise _damaged(entry)
    return kernel


def _known(name: str) -> None:
    if name not in KNOWN:
        raise UsageError(f"there is no kernel '{name}' of ours", hint=f"there are {', '.join(KNOWN)}")


def _folder() -> Path:
    return cache_dir() / "kernels"


def _damaged(entry: Path) -> BuildError:
    return BuildError(f"the cache entry {entry} is damaged", hint="remove it, and build again")


def _entries() -> list[Path]:
    try:
        with os.scandir(_folder()) as found:
            # A name that begins with a dot is no entry: a lock, or a build under way.
            return sorted(
                Path(each.path)
                for each in found
                if "-" in each.name and not each.name.startswith(".") and each.is_dir()
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unusable(_folder(), error) from error


def _key(entry: Path) -> str:
    return entry.name.rpartition("-")[2]


def _entry(name: str, source: sources.Source) -> Path:
    fragments = kconfig.fragment_files(data_dir() / "kernel", name)
    key = digest(source.identity, toolchain.compiler_version(), *contents(fragments))
    return _folder() / f"{name}-{key}"


def _load(entry: Path, initrd: Path | None) -> BuiltKernel | None:
    """The entry's kernel with that ramdisk."""
    facts = _facts(entry)
    archive = None if initrd is None else ramdisk.archive(initrd)
    if facts is None or archive is None:
        return None
    return BuiltKernel(
        name=facts["name"],
        bzimage=entry / "bzImage",
        vmlinux=entry / "vmlinux",
        config=entry / "config",
        initrd=archive,
        key=_key(entry),
        pae=facts["pae"],
        release=facts["release"],
        built=(entry / "bzImage").stat().st_mtime,
    )


def _facts(entry: Path) -> dict[str, Any] | None:
    """What ``kernel.json`` says; ``None`` unless that is readable, and all that belongs to it is there."""
    return _facts_of_files(entry) if (entry / build.KBUILD).is_dir() else None


def _is_older(entry: Path) -> bool:
    """Whether all is there but what came later: the folder for modules, and folders for ramdisks."""
    later = (entry / build.KBUILD).exists() or any(map(Path.is_dir, entry.glob("initrd-*")))
    return not later and _facts_of_files(entry) is not None


def _facts_of_files(entry: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((entry / "kernel.json").read_text())
    except (OSError, ValueError):
        return None
    types = {"name": str, "release": str, "pae": bool}
    if not isinstance(facts, dict) or not all(
        isinstance(facts.get(key), kind) for key, kind in types.items()
    ):
        return None
    return facts if all((entry / name).is_file() for name in build.KEPT) else None


@contextmanager
def _workshop(name: str, entry: Path) -> Iterator[Path]:
    """A folder to build in that goes away afterwards; of what fails the log is kept."""
    workshop = entry.with_name(f".building-{name}")
    # The lock is ours: what lies here was left by a build that was killed.
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    try:
        yield workshop
    except BuildError as error:
        logs = sorted(workshop.glob("*/build.log"))
        kept = _keep_log(logs[-1], entry) if logs else ""
        raise BuildError(error.message, hint=kept or error.hint) from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _make(
    name: str, source: sources.Source, initrd: Path, lock: int, progress: Callable[[str], None]
) -> None:
    """Build what is missing: the entry with its kernel, the ramdisk in it."""
    entry = initrd.parent
    toolchain.demand([*toolchain.PROGRAMS, *sources.programs(source)])
    if not entry.is_dir():
        _check_space(entry.parent)
    tree = sources.tree_of(source, progress)
    with _workshop(name, entry) as workshop:
        if not entry.is_dir():
            unfinished, scratch = workshop / "entry", workshop / "scratch"
            unfinished.mkdir()
            scratch.mkdir()
            build.build(name, tree, scratch, unfinished, lock=lock, progress=progress)
            unfinished.rename(entry)
            shutil.rmtree(scratch)
        ramdisk.make(name, tree, initrd, workshop, lock=lock, progress=progress)


def _keep_log(log: Path, entry: Path) -> str:
    """Move a failed build's log to where it survives; returns the hint that names it."""
    kept = cache_dir() / "logs" / f"{entry.name}.log"
    try:
        kept.parent.mkdir(exist_ok=True)
        log.replace(kept)
    except OSError:
        return ""
    return f"the log is {kept}"


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < build.NEEDED_BYTES:
        raise BuildError(
            f"{folder} has {free >> 20} MiB free, a kernel needs {build.NEEDED_BYTES >> 20} MiB to build",
            hint="make room, or set XDG_CACHE_HOME to another place",
        )


def _explained(error: OSError, entry: Path) -> BuildError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    message = f"the disk is full: {entry.parent}" if full else f"{error.filename or entry}: {error.strerror}"
    return BuildError(message, hint="make room, or set XDG_CACHE_HOME to another place")

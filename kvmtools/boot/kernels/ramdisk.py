"""The initial ramdisk of one kernel: our init and our driver, compiled for it, in a folder of the kernel's entry.

It is not part of what the kernel is keyed by: both compile in seconds, and the kernel need not wait minutes for them.
The folder, ``initrd-KEY``, appears by one rename or not at all, and has the driver with DWARF, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from kvmtools.boot.kernels import build, initramfs, toolchain
from kvmtools.boot.kernels.keys import contents, digest
from kvmtools.paths import data_dir

_ARCHIVE = "initrd.cpio"
_FILES = (_ARCHIVE, "kvmtools.ko", "kvmtools.debug.ko")


def current(entry: Path) -> Path:
    """The folder of the entry for today's init and driver, whether it is there or not."""
    data = data_dir()
    sources = [
        *sorted((data / "init").glob("*.[ch]")),
        *build.driver_sources(),
    ]
    key = digest(toolchain.compiler_version(), *initramfs.INIT_FLAGS, *contents(sources))
    return entry / f"initrd-{key}"


def newest(entry: Path) -> Path | None:
    """The folder that was made last; ``None`` if there is none."""
    found = [folder for folder in entry.glob("initrd-*") if archive(folder)]
    return max(found, key=lambda folder: folder.stat().st_mtime_ns, default=None)


def archive(folder: Path) -> Path | None:
    """The ramdisk in such a folder; ``None`` unless all that belongs to it is there."""
    return folder / _ARCHIVE if all((folder / name).is_file() for name in _FILES) else None


def make(
    name: str, tree: Path, folder: Path, workshop: Path, *, lock: int, progress: Callable[[str], None]
) -> None:
    """Make such a folder of an entry, inside the empty ``workshop``.

    :param tree: what the entry's kernel was built from
    :param lock: a file descriptor for make to hold
    :raises BuildError: if one of the two does not compile; what make said is in ``workshop/driver/build.log``
    """
    scratch, unfinished = workshop / "driver", workshop / "initrd"
    scratch.mkdir()
    unfinished.mkdir()
    debug, driver = build.build_driver(name, tree, folder.parent, scratch, lock=lock, progress=progress)
    init = workshop / "init"
    initramfs.compile_init(data_dir() / "init", init)
    members = initramfs.guest_members(init.read_bytes(), driver.read_bytes())
    (unfinished / _ARCHIVE).write_bytes(initramfs.pack(members))
    for module in (debug, driver):
        module.rename(unfinished / module.name)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)

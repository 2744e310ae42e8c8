"""One kernel, from a source tree to the files of a cache entry."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from kvmtools.boot.kernels import kconfig
from kvmtools.boot.kernels.make import Make
from kvmtools.boot.kernels.toolchain import environment
from kvmtools.errors import BuildError
from kvmtools.paths import data_dir

# What a first build fills at most.  Measured for 6.1: the unpacked source 0.63 GiB, objects 0.35, the entry 0.08.
NEEDED_BYTES = 1400 << 20


KEPT = ("bzImage", "vmlinux", "config")
"""The files of an entry: the image, the kernel with DWARF, its configuration."""
KBUILD = "kbuild"
"""The folder of an entry that modules are built against, so that a new driver needs no new kernel."""
# Of the build's output what `make M=` reads, as the kernel's own scripts/package/install-extmod-build has it: 10 MiB.
_FOR_MODULES = (
    *("Makefile", ".config", "Module.symvers", "include", "scripts"),
    *("arch/x86/include", "tools/objtool/objtool"),
)


def build(
    name: str, tree: Path, scratch: Path, entry: Path, *, lock: int, progress: Callable[[str], None]
) -> None:
    """Fill the empty directory ``entry`` with kernel ``name``, built from ``tree`` inside the empty ``scratch``.

    The entry holds what :data:`KEPT` names, :data:`KBUILD`, ``kernel.json`` and ``build.log``; on failure at least
    the log.

    :param lock: a file descriptor for make to hold
    :raises BuildError: if make fails, or if a requested option did not stick
    """
    output = scratch / "kernel"
    output.mkdir()
    with open(entry / "build.log", "w") as log:
        make = Make(name, tree, output, log, lock, progress)
        progress(f"{name}: configuring")
        make.run("tinyconfig")
        _configure(name, make)
        make.run("bzImage", "modules")
    shutil.copy(output / ".config", entry / "config")
    (output / "arch/x86/boot/bzImage").rename(entry / "bzImage")
    (output / "vmlinux").rename(entry / "vmlinux")
    release = (output / "include/config/kernel.release").read_text().strip()
    _keep_kbuild(output, entry / KBUILD)
    pae = kconfig.parse((entry / "config").read_text()).get("CONFIG_X86_PAE") == "y"
    facts = {"name": name, "release": release, "pae": pae, "source": str(tree)}
    (entry / "kernel.json").write_text(json.dumps(facts, indent=2) + "\n")


def driver_sources() -> list[Path]:
    """What our driver is built of; not what an editor leaves beside it."""
    return [
        path
        for path in sorted((data_dir() / "driver").iterdir())
        if (path.name == "Kbuild" or path.suffix in (".c", ".h")) and path.name[0] != "." and path.is_file()
    ]


def build_driver(
    name: str, tree: Path, entry: Path, scratch: Path, *, lock: int, progress: Callable[[str], None]
) -> tuple[Path, Path]:
    """Our driver for the kernel in ``entry``, built in the empty ``scratch``: with DWARF, and stripped.

    :param tree: what the kernel was built from
    :raises BuildError: if make fails, or the module cannot be stripped; ``scratch`` has ``build.log``
    """
    driver = scratch / "driver"
    driver.mkdir()
    for path in driver_sources():
        shutil.copy(path, driver)
    with open(scratch / "build.log", "w") as log:
        Make(f"{name}'s driver", tree, entry / KBUILD, log, lock, progress).run(f"M={driver}", "modules")
    debug, stripped = scratch / "kvmtools.debug.ko", scratch / "kvmtools.ko"
    (driver / "kvmtools.ko").rename(debug)
    _strip(debug, stripped)
    return debug, stripped


def _keep_kbuild(output: Path, kept: Path) -> None:
    for name in _FOR_MODULES:
        if (output / name).exists():
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).rename(kept / name)


def _configure(name: str, make: Make) -> None:
    config = make.output / ".config"
    fragments = kconfig.fragment_files(data_dir() / "kernel", name)
    config.write_text(kconfig.merge(config.read_text(), fragments))
    make.run("olddefconfig")
    refused = kconfig.not_granted(fragments, config.read_text())
    if refused:
        raise BuildError(
            f"{name}: this source does not grant {', '.join(refused)}",
            hint="the fragments in qemu/kernel/ ask for it: take another source, or change them",
        )


def _strip(debug: Path, stripped: Path) -> None:
    # The kernel writes about each section it loads; DWARF would fill half the initramfs.
    command = ["strip", "--strip-debug", "-o", str(stripped), str(debug)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment())
    if done.returncode:
        complaint = next(iter(done.stderr.splitlines()), f"it ended with status {done.returncode}")
        raise BuildError(f"the guest's driver cannot be stripped: {complaint}", hint=" ".join(command))

"""The programs a kernel build needs: looked for before anything starts, named all at once with their purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kvmtools.errors import BuildError


@dataclass(frozen=True, slots=True)
class Program:
    """A program, the Debian package that has it, and what we want of it."""

    name: str
    package: str
    purpose: str


PROGRAMS = (
    Program("make", "make", "runs the kernel's build"),
    Program("gcc", "gcc", "compiles it"),
    Program("ld", "binutils", "links it"),
    Program("strip", "binutils", "makes the guest's driver small"),
    Program("flex", "flex", "makes the configuration's scanner"),
    Program("bison", "bison", "makes the configuration's parser"),
    Program("bc", "bc", "computes the timer constants"),
    Program("awk", "gawk", "makes the opcode tables"),
    Program("gzip", "gzip", "compresses the kernel image"),
)
TAR = Program("tar", "tar", "unpacks the kernel's source")
UNPACKERS = {
    ".xz": Program("xz", "xz-utils", "unpacks the kernel's source"),
    ".gz": Program("gzip", "gzip", "unpacks the kernel's source"),
    ".bz2": Program("bzip2", "bzip2", "unpacks the kernel's source"),
    ".zst": Program("zstd", "zstd", "unpacks the kernel's source"),
}

# One header stands for the C library's, which the kernel's own host programs use.
_PROBE_HOST = "#include <stdio.h>\nint main(void) { return 0; }\n"
_PROBE_I386 = "int probe(int number) { return number + 1; }\n"


def demand(programs: Iterable[Program]) -> None:
    """Return if all programs are there and gcc serves both the host and i386.

    :raises BuildError: if not; the message names every missing one with its purpose, the hint what to install
    """
    missing = [program for program in dict.fromkeys(programs) if shutil.which(program.name) is None]
    lacks = [f"{program.name} ({program.purpose})" for program in missing]
    packages = [program.package for program in missing]
    if shutil.which("gcc") is not None:
        if not _compiles(_PROBE_HOST, "-fsyntax-only"):
            lacks.append("the C library's headers (for the programs that the kernel builds for itself)")
            packages.append("libc6-dev")
        if not _compiles(_PROBE_I386, "-m32", "-ffreestanding", "-c"):
            lacks.append("a gcc that takes -m32 (compiles for i386)")
            packages.append("gcc")
    if lacks:
        raise BuildError(
            f"a kernel cannot be built here without {', '.join(lacks)}",
            hint=f"on Debian: apt install {' '.join(dict.fromkeys(packages))}",
        )


def _compiles(text: str, *flags: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="kvmtools-probe-") as scratch:
        output = Path(scratch) / "probe.o"
        command = ["gcc", *flags, "-x", "c", "-", "-o", str(output)]
        return subprocess.run(command, input=text.encode(), capture_output=True).returncode == 0


def compiler_version() -> str:
    """The first line of ``gcc --version``, or ``""`` without a gcc."""
    if shutil.which("gcc") is None:
        return ""
    done = subprocess.run(["gcc", "--version"], capture_output=True, text=True, env=environment())
    return done.stdout.partition("\n")[0]


def environment() -> dict[str, str]:
    """The environment of every program of a build: the caller's, less what would steer make or the kernel's
    Makefile from outside (``MAKEFLAGS``, ``ARCH``, ``CROSS_COMPILE``, ``KBUILD_OUTPUT``...)."""
    steering = {
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "ARCH",
        "SUBARCH",
        "CROSS_COMPILE",
        "LLVM",
        "LOCALVERSION",
    }
    steering |= {"CC", "LD", "HOSTCC", "CFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "INSTALL_MOD_PATH"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in steering and not name.startswith(("KBUILD_", "KCONFIG_", "KCFLAGS", "KCPPFLAGS"))
    }
    # The same source and compiler give the same kernel, whoever builds it and when.
    same = {
        "KBUILD_BUILD_USER": "kvmtools",
        "KBUILD_BUILD_HOST": "kvmtools",
        "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    }
    return {**kept, **same, "LC_ALL": "C"}

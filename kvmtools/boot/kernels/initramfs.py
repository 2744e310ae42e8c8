"""The guest's initramfs: our init and our driver, packed without help from other programs.

A *newc* archive (kernel, Documentation/driver-api/early-userspace/buffer-format.rst): each member is a header
of thirteen 8-digit hexadecimal fields after the magic, its name, its data, both padded to four bytes.  Inode numbers
are counted, every time is zero, every owner is root: the same members give the same bytes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_IFDIR, S_IFREG

from kvmtools.errors import BuildError

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"

# Freestanding code for any processor that runs an i386 kernel: no library, no relocation, no stack guard.  An i686 has
# conditional moves, at which a 486 or a Pentium ends init; the assembler watches over what is written by hand, too.
INIT_FLAGS = (
    *("-m32", "-march=i486", "-Wa,-march=i486", "-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror"),
    *("-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-no-pie"),
    *("-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none"),
    *("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-s"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """One directory (``data`` empty, ``mode`` says so) or regular file of an archive.

    :param name: its path in the guest without the leading slash
    """

    name: str
    mode: int
    data: bytes = b""


def directory(name: str) -> Member:
    return Member(name, S_IFDIR | 0o755)


def regular_file(name: str, data: bytes, *, executable: bool = False) -> Member:
    return Member(name, S_IFREG | (0o755 if executable else 0o644), data)


def pack(members: Iterable[Member]) -> bytes:
    """The *newc* archive of the members, in their order; directories must come before what they hold."""
    archive = bytearray()
    for inode, member in enumerate([*members, Member(_TRAILER, 0)], start=1):
        name = member.name.encode() + b"\0"
        links = 2 if member.mode & S_IFDIR == S_IFDIR else 1
        #          ino   mode        uid gid links time size            dev(2) rdev(2) name       check
        fields = (inode, member.mode, 0, 0, links, 0, len(member.data), 0, 0, 0, 0, len(name), 0)
        archive += _MAGIC + b"".join(b"%08x" % field for field in fields) + name
        archive += bytes(-len(archive) % 4) + member.data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def compile_init(sources: Path, output: Path, *, compiler: str = "gcc") -> None:
    """Compile the C files of ``sources`` (our ``qemu/init/``) to the static i386 program ``output``.

    :raises BuildError: if the compiler refuses; its first complaint is in the message
    """
    command = [compiler, *INIT_FLAGS, "-o", str(output), *map(str, sorted(sources.glob("*.c")))]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise BuildError(f"the guest's init does not compile: {complaint}", hint=" ".join(command))


def guest_members(init: bytes, driver: bytes) -> list[Member]:
    """What the guest's root holds before the first mount."""
    return [
        *(directory(name) for name in ("dev", "proc", "sys", "tmp")),
        regular_file("init", init, executable=True),
        regular_file("kvmtools.ko", driver),
    ]

"""Kernel files as they are shipped: a vmlinux packed by a compressor, or inside a vmlinuz (bzImage).

Python's library unpacks some; for the others there are the programs that the kernel's scripts/extract-vmlinux takes.

Source: the setup header, Documentation/arch/x86/boot.rst, of protocol 2.08 (2.6.26) and later; what follows the
payload, ``size_append`` in scripts/Makefile.lib.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

from kvmtools.errors import SymbolsError

# A vmlinux is seldom packed, and every command opens one: what unpacks it is imported where it is needed.


class Compression(NamedTuple):
    """A way to pack, told by how the file begins."""

    name: str
    magic: bytes
    program: str = ""
    """What unpacks it, and the name of Debian's package; Python's library if it is left out."""


COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b"),
    Compression("bzip2", b"BZh"),
    Compression("xz", b"\xfd7zXZ\0"),
    Compression("lzma", b"\x5d\0\0"),
    Compression("zstd", b"\x28\xb5\x2f\xfd", program="zstd"),
    Compression("lz4", b"\x04\x22\x4d\x18", program="lz4"),
    Compression("lz4", b"\x02\x21\x4c\x18", program="lz4"),  # its old form, which the kernel takes
    Compression("lzo", b"\x89LZO\0", program="lzop"),
)
"""Those of a kernel image (``KERNEL_GZIP`` and so on, init/Kconfig)."""

_SETUP_SECTORS = 0x1F1
_SIGNATURE_AND_VERSION = struct.Struct("<4sH")
_SIGNATURE_AT = 0x202
_PAYLOAD = struct.Struct("<II")
"""Where it begins in the protected-mode code, and its length."""
_PAYLOAD_AT = 0x248
_HEADER_END = 0x250
_APPENDED = 4
"""Bytes behind a payload, how long it is unpacked; gzip's trailer ends in the same."""

_AGAIN = "is the file damaged? build or install it again"


def unpacked(path: Path, descriptor: int) -> int | None:
    """A descriptor of the file that is packed in the one at ``path``, which is open; the caller closes it.

    It is of a temporary file without a name, which is gone when that is closed.  ``None`` if nothing is packed.

    :raises OSError: if ``path`` cannot be read, or there is no room
    :raises SymbolsError: if what is packed is damaged, or nothing here unpacks it
    """
    size = os.fstat(descriptor).st_size
    payload = _payload(os.pread(descriptor, _HEADER_END, 0))
    start, length = payload or (0, size)
    compression = _compression(os.pread(descriptor, 8, start))
    if compression is None:
        return None
    if start + length > size:
        raise SymbolsError(f"{path} is cut off inside its packed kernel", hint=_AGAIN)
    if payload and compression.name != "gzip":
        length -= _APPENDED
    return _unpacked(path, compression, os.pread(descriptor, length, start))


def _compression(start: bytes) -> Compression | None:
    return next((each for each in COMPRESSIONS if start.startswith(each.magic)), None)


def _payload(header: bytes) -> tuple[int, int] | None:
    """Where a bzImage keeps the packed kernel, and how many bytes that has; ``None`` if the file is none."""
    if len(header) < _HEADER_END:
        return None
    signature, version = _SIGNATURE_AND_VERSION.unpack_from(header, _SIGNATURE_AT)
    if signature != b"HdrS" or version < 0x208:
        return None
    offset, length = _PAYLOAD.unpack_from(header, _PAYLOAD_AT)
    return ((header[_SETUP_SECTORS] or 4) + 1) * 512 + offset, length


def _unpacked(path: Path, compression: Compression, packed: bytes) -> int:
    import tempfile

    with tempfile.TemporaryFile(prefix="kvmtools-") as whole:
        unpack = _by_program if compression.program else _by_library
        why = unpack(path, compression, packed, whole)
        if why is not None:
            raise SymbolsError(f"{path} cannot be unpacked as {compression.name}: {why}", hint=_AGAIN)
        whole.flush()
        return os.dup(whole.fileno())


def _by_library(_path: Path, compression: Compression, packed: bytes, whole: IO[bytes]) -> str | None:
    """Why it cannot be unpacked, if it cannot."""
    import bz2
    import gzip
    import io
    import lzma
    import shutil
    import zlib

    packer: Any = {"gzip": gzip, "bzip2": bz2}.get(compression.name, lzma)
    try:
        with packer.open(io.BytesIO(packed)) as inner:
            shutil.copyfileobj(inner, whole, 1 << 20)
    except (EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        return str(error)
    except OSError as error:
        if error.errno is not None:  # such as a full disk; damage has no number
            raise
        return str(error)
    return None


def _by_program(path: Path, compression: Compression, packed: bytes, whole: IO[bytes]) -> str | None:
    import subprocess

    program = compression.program
    try:
        done = subprocess.run([program, "-dc"], input=packed, stdout=whole, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise SymbolsError(
            f"{path} is packed with {compression.name}, and the program {program} is not installed",
            hint=f"apt install {program}, or unpack the file yourself",
        ) from None
    return done.stderr.decode(errors="replace") if done.returncode else None

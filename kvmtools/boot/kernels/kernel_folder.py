"""A folder with a kernel in it, as builders leave it: which file boots, and which has the symbols.

What is looked for: the kernel's own build tree (``make``, and ``kunit.py``'s build folder), tuxmake's output
(``bzImage``, ``vmlinux.xz``, ``config``, ``modules.tar.xz``, ``metadata.json``), and a package of the 0-day robot
(``vmlinuz-VERSION``, ``vmlinux.xz``).
"""

from __future__ import annotations

from pathlib import Path

from kvmtools.errors import UsageError

_IMAGES = ("arch/x86/boot/bzImage", "bzImage", "vmlinuz", "vmlinuz-*")
_PACKED = (".xz", ".gz", ".zst", ".bz2", ".lz4", ".lzma")
_SYMBOLS = ("vmlinux", *(f"vmlinux{suffix}" for suffix in _PACKED))


def is_packed(vmlinux: Path) -> bool:
    """Whether gdb and drgn want it unpacked, by its name."""
    return vmlinux.suffix in _PACKED


def image_in(folder: Path) -> Path:
    """The image that boots.

    :raises UsageError: if there is none, or more than one
    """
    return _only(folder, _IMAGES, "kernel image", "name the image itself with --kernel")


def symbols_in(folder: Path) -> Path:
    """The vmlinux, packed if it is there in no other form.

    :raises UsageError: if there is none
    """
    return _only(
        folder, _SYMBOLS, "vmlinux", "name it with -s; tuxmake writes one if told to build debugkernel"
    )


def _only(folder: Path, patterns: tuple[str, ...], what: str, hint: str) -> Path:
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UsageError(f"the folder {folder} has more than one {what}: {names}", hint=hint)
        if found:
            return found[0]
    raise UsageError(f"the folder {folder} has no {what} ({', '.join(patterns)})", hint=hint)

"""What a guest boots: a kernel of ours by its name, or any other by its path."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvmtools.errors import BuildError, UsageError


@dataclass(frozen=True)
class ChosenKernel:
    """What to boot; ``ours`` has the agent inside, ``pae`` is our PAE kernel."""

    bzimage: Path
    initrd: Path | None
    vmlinux: Path
    pae: bool
    ours: bool


def choose(
    kernel: str, vmlinux: Path | None, initrd: Path | None, progress: Callable[[str], None]
) -> ChosenKernel:
    """The files of the kernel that is asked for; one of ours is built first if need be.

    :param kernel: a name of ours, an image, or a folder that has one (:mod:`kvmtools.boot.kernels.kernel_folder`)
    :param vmlinux: its symbols, or a folder that has them; not needed beside a folder that has both
    :raises UsageError: if there is none, or it lacks its symbols
    :raises BuildError: if it cannot be built
    """
    from kvmtools.boot.kernels import kernel_folder, reference

    if kernel in reference.KNOWN:
        if vmlinux is not None or initrd is not None:
            raise UsageError(
                f"the kernel '{kernel}' has symbols and an initrd of its own",
                hint="leave out -s and --initrd",
            )
        built = reference.ensure(kernel, progress=progress)
        return ChosenKernel(built.bzimage, built.initrd, built.vmlinux, pae=built.pae, ours=True)
    image = Path(kernel).absolute()
    folder = image if image.is_dir() else None
    if folder is not None:
        image = kernel_folder.image_in(folder)
    with suppress(BuildError):  # a kernel by its path needs no cache
        for built in reference.listing():
            # One that was built from another source is ours as well, with all that belongs to it.
            if image == built.bzimage and vmlinux is None and initrd is None:
                return ChosenKernel(image, built.initrd, built.vmlinux, pae=built.pae, ours=True)
    if not image.is_file():
        raise UsageError(
            f"there is no kernel '{kernel}'",
            hint=f"{', '.join(reference.KNOWN)}, or the path of a kernel image or of the folder that it was built in",
        )
    vmlinux = vmlinux or folder
    if vmlinux is None:
        raise UsageError(f"the kernel '{kernel}' needs its symbols", hint="give its vmlinux with -s")
    if vmlinux.is_dir():
        vmlinux = kernel_folder.symbols_in(vmlinux)
    for role, path in (("vmlinux", vmlinux), ("initrd", initrd)):
        if path is not None and not path.is_file():
            raise UsageError(f"there is no {role} '{path}'")
    ramdisk = initrd.absolute() if initrd is not None else None
    return ChosenKernel(image, ramdisk, vmlinux.absolute(), pae=False, ours=False)

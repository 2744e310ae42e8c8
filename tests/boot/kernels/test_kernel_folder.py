"""Folders as builders leave them; the names are those that the builders themselves write."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmtools.boot.guests import chosen_kernel
from kvmtools.boot.kernels import reference
from kvmtools.boot.kernels.kernel_folder import image_in, symbols_in
from kvmtools.errors import UsageError

TUXMAKE = ("bzImage", "vmlinux.xz", "System.map", "config", "kernel.xz", "modules.tar.xz", "metadata.json")
"""tuxmake 1.45, --target-arch i386, targets config, debugkernel, kernel and modules."""
BUILD_TREE = ("arch/x86/boot/bzImage", "vmlinux", "vmlinux.o", "vmlinux.map", "vmlinux.a", "System.map")
ROBOT = ("vmlinuz-6.1.0-rc3-00012-g0123456789ab", "vmlinux.xz", "System.map", "modules.cgz")


def folder_with(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("names", "image", "symbols"),
    [
        (TUXMAKE, "bzImage", "vmlinux.xz"),
        (BUILD_TREE, "arch/x86/boot/bzImage", "vmlinux"),
        (ROBOT, ROBOT[0], "vmlinux.xz"),
        (("bzImage", "vmlinux.zst"), "bzImage", "vmlinux.zst"),
        (("bzImage", "vmlinux.gz", "vmlinux"), "bzImage", "vmlinux"),
    ],
)
def test_what_boots_and_what_has_the_symbols(
    tmp_path: Path, names: tuple[str, ...], image: str, symbols: str
) -> None:
    folder_with(tmp_path, *names)
    assert image_in(tmp_path) == tmp_path / image
    assert symbols_in(tmp_path) == tmp_path / symbols


def test_a_folder_is_a_kernel(tmp_path: Path) -> None:
    folder_with(tmp_path, *TUXMAKE)
    chosen = chosen_kernel.choose(str(tmp_path), None, None, print)
    assert (chosen.bzimage, chosen.vmlinux) == (tmp_path / "bzImage", tmp_path / "vmlinux.xz")
    assert (chosen.initrd, chosen.ours) == (None, False)


def test_the_symbols_may_lie_in_another_folder(tmp_path: Path) -> None:
    image = folder_with(tmp_path / "boot", "bzImage") / "bzImage"
    build = folder_with(tmp_path / "build", *BUILD_TREE)
    for kernel in (image, image.parent):
        chosen = chosen_kernel.choose(str(kernel), build, None, print)
        assert (chosen.bzimage, chosen.vmlinux) == (image, build / "vmlinux")


def test_our_own_folder_keeps_its_initrd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path, "bzImage", "vmlinux", "config", "initrd.cpio")
    files = (tmp_path / name for name in ("bzImage", "vmlinux", "config", "initrd.cpio"))
    ours = reference.BuiltKernel("pae", *files, key="0", pae=True, release="6.1", built=0.0)
    monkeypatch.setattr(reference, "listing", lambda: [ours])
    chosen = chosen_kernel.choose(str(tmp_path), None, None, print)
    assert (chosen.initrd, chosen.ours, chosen.pae) == (tmp_path / "initrd.cpio", True, True)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "has no kernel image (arch/x86/boot/bzImage, bzImage, vmlinuz, vmlinuz-*)"),
        (("vmlinuz-6.1", "vmlinuz-6.12", "vmlinux"), "more than one kernel image: vmlinuz-6.1, vmlinuz-6.12"),
        (("bzImage", "vmlinux.o"), "has no vmlinux (vmlinux, vmlinux.xz, "),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    folder_with(tmp_path, *names)
    with pytest.raises(UsageError) as caught:
        chosen_kernel.choose(str(tmp_path), None, None, print)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "--kernel" in caught.value.hint or "-s" in caught.value.hint

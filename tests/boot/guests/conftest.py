"""``place``: a machine of our own, whose QEMU is ``fake_qemu.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_place import FAKE_QEMU, Place

from kvmtools.boot.guests import ram_location, registry
from kvmtools.boot.host import detached


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("run", "cache", "shm", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "qemu-system-i386").symlink_to(FAKE_QEMU)
    image, vmlinux = tmp_path / "bzImage", tmp_path / "vmlinux"
    image.touch()
    vmlinux.touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ram_location, "SHARED_MEMORY", tmp_path / "shm")
    yield Place(tmp_path, image, vmlinux)
    for guest in registry.all_guests():
        detached.end(guest.pid, guest.started, patience=0)

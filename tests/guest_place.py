"""A machine of our own to start guests on, below one directory: see ``place`` in tests/boot/guests/conftest.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvmtools.boot.guests import lifecycle, starting

FAKE_QEMU = Path(__file__).parent / "boot" / "guests" / "fake_qemu.py"


@dataclass
class Place:
    """A machine of our own: run directory, cache and shared memory below one temporary directory."""

    root: Path
    image: Path
    vmlinux: Path

    def start(self, name: str = "fake", timeout: float = 30.0) -> lifecycle.Guest:
        return starting.start(
            name,
            kernel=str(self.image),
            vmlinux=self.vmlinux,
            memory="64M",
            accel="tcg",
            timeout=timeout,
        )

    def left_behind(self) -> list[Path]:
        """Every file below the run directory, the cache and shared memory; kept messages aside."""
        found = [path for top in ("run/kvmtools", "shm", "cache") for path in (self.root / top).rglob("*")]
        kept = self.kept_messages.parent
        return [path for path in found if path not in (self.kept_messages, kept, kept.parent)]

    @property
    def kept_messages(self) -> Path:
        """Where the console of the guest ``fake`` is kept if it did not start."""
        return self.root / "cache" / "kvmtools" / "logs" / "fake.console.log"

"""The program that runs our guests: its name, its version, and how its options are written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

QEMU = "qemu-system-i386"


def version() -> str:
    """What it says of itself, the distribution's revision included; ``""`` if it says nothing."""
    try:
        done = subprocess.run([QEMU, "--version"], capture_output=True, text=True, errors="replace")
    except OSError:
        return ""
    return done.stdout.partition("\n")[0]


def escaped(path: Path) -> str:
    """A path as a value in a list of options: a comma ends a value, a doubled comma is a comma."""
    return os.fspath(path).replace(",", ",,")

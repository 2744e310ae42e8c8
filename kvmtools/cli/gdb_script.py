"""``kvmtools gdb-script``: the way into a user's own gdb."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from pathlib import Path

import click

from kvmtools.cli.files import write_whole
from kvmtools.cli.output import emit
from kvmtools.paths import cache_dir

FOLDER = Path(__file__).resolve().parents[1] / "companions" / "gdb"
NAME = "kvm.py"
_SCRIPT = '''\
"""kvm ... in gdb: written by `kvmtools gdb-script`, for gdb's `source`."""

import importlib.util
import os
import sys

FOLDER = {folder!r}
INTERPRETER = {interpreter!r}

if os.access(INTERPRETER, os.X_OK) and os.path.isdir(FOLDER):
    spec = importlib.util.spec_from_file_location("kvmtools_gdb", os.path.join(FOLDER, "__init__.py"))
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    sys.modules[spec.name].load(INTERPRETER)
else:
    print("the kvmtools that wrote this script is gone: source what `kvmtools gdb-script` prints", file=sys.stderr)
'''


@click.command()
def command() -> None:
    """Print the path of a script that gives your gdb the `kvm` commands.

    For a gdb that is connected to a QEMU's gdbstub with an i386 Linux kernel: kvm vtop, walk, page, pkmap, zones,
    check, layout, regs, and symbols, which loads the kernel's symbols where KASLR has put it; in expressions,
    $kvm_pte(ADDRESS) and $kvm_page(PFN).  The script asks this kvmtools, which needs no other way to QEMU than gdb's.

    \b
    gdb vmlinux -ex "source $(kvmtools gdb-script)" -ex 'target remote :1234' -ex 'kvm symbols'
    echo "source $(kvmtools gdb-script)" >> ~/.gdbinit
    """
    emit(str(script()))


def script() -> Path:
    """The script that asks this kvmtools, written if it is not there yet: one for each that is installed.

    :raises OutputError: if it cannot be written
    """
    text = _SCRIPT.format(folder=str(FOLDER), interpreter=sys.executable)
    path = cache_dir() / "gdb" / hashlib.sha256(text.encode()).hexdigest()[:12] / NAME
    if not _holds(path, text):
        with suppress(OSError):  # if there is no folder, the file is told of
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    return path


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except OSError:
        return False

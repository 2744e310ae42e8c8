"""Where in the kernel's source a variable, a function or a type is declared, by the vmlinux's DWARF.

drgn knows types and addresses, but no line of a declaration; gdb does, and reads only the few compilation units that
the names lead to.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from posixpath import normpath

_SECONDS = 120
_ANCHOR = ("start_kernel", "init/main.c")
"""A function of every kernel, and its file: what stands before that in the DWARF is the root of the source."""

_SCRIPT = """
import gdb, json
def place(name):
    if name.startswith("struct "):
        found = gdb.lookup_static_symbol(name[7:], gdb.SYMBOL_STRUCT_DOMAIN)
    else:
        found = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
    return [found.symtab.filename, found.line] if found and found.symtab and found.line else None
print("\\n" + json.dumps({name: place(name) for name in NAMES}))
"""


def declarations(vmlinux: Path, names: Sequence[str]) -> dict[str, str | None] | None:
    """``{"pkmap_count": "mm/highmem.c:141", ...}`` by gdb, files from the root of the source; ``None`` for a name of
    which the DWARF says nothing.  Of a variable it is any of its declarations, in a header or where it is defined.

    :param names: variables, functions, and types as ``"struct page"``
    :return: ``None`` if there is no gdb with Python, or it cannot read the file
    """
    gdb = shutil.which("gdb")
    if gdb is None:
        return None
    anchor, anchored = _ANCHOR
    script = f"NAMES = {[anchor, *names]!r}\n{_SCRIPT}"
    settings = [
        word for each in ("auto-load off", "debuginfod enabled off") for word in ("-iex", f"set {each}")
    ]
    words = [gdb, "-nx", "-batch", *settings, "-ex", f"python exec({script!r})", str(vmlinux.absolute())]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
        found: dict[str, tuple[str, int] | None] = json.loads(done.stdout.splitlines()[-1])
        root = found[anchor][0].removesuffix(anchored)  # type: ignore[index]  # its TypeError is caught
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, KeyError, TypeError):
        return None
    return {name: _spelled(found.get(name), root) for name in names}


def _spelled(place: tuple[str, int] | None, root: str) -> str | None:
    """``file:line``; a file that lies outside the source (one that the build made elsewhere) is not told."""
    if place is None:
        return None
    file = normpath(place[0]).removeprefix(normpath(root) + "/" if root else "")
    return None if file.startswith(("/", "../")) else f"{file}:{place[1]}"

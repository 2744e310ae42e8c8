"""Which of a guest's kernel parameters its kernel does not know, by its own word on the console.

Since 5.14 it prints them (``print_unknown_bootoptions``, init/main.c), unless ``quiet`` or ``loglevel=`` keeps it from
that; nothing else is sure to know what a kernel knows.
"""

from __future__ import annotations

import re
from pathlib import Path

_FIRST = 256 << 10  # bytes: it is among the first messages
_NOTICE = re.compile(rb'Unknown kernel command line parameters "(.*)", will be passed to user space')

#: Read from the raw command line (``cmdline_find_option`` in arch/x86: 6.1, 6.12, 7.2), of which that notice knows
#: nothing.
_READ_ALL_THE_SAME = {
    "clearcpuid", "dis_ucode_ldr", "fred", "microcode", "no387", "nofxsr", "nokaslr", "nopti",
    "nospec_store_bypass_disable", "nospectre_v2", "nousershstk", "noxsave", "noxsaveopt",
    "noxsaves", "pti", "setcpuid", "spec_store_bypass_disable", "spectre_v2", "spectre_v2_user",
    "split_lock_detect", "tsx",
}  # fmt: skip


def unknown(console: Path, append: str) -> list[str]:
    """Those words of ``append`` that the kernel said it does not know; none if it said nothing (yet).

    :param console: the file of what it printed
    """
    try:
        with console.open("rb") as file:
            found = _NOTICE.search(file.read(_FIRST))
    except OSError:
        return []
    named = found[1].decode(errors="replace").split() if found else []
    return [
        word
        for word in dict.fromkeys(append.split())
        if word in named and word.partition("=")[0] not in _READ_ALL_THE_SAME
    ]

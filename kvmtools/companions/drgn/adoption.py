"""A drgn program of an i386 guest becomes one that can be worked with."""

from __future__ import annotations

import logging
from importlib import import_module

from drgn import PlatformFlags, Program, ProgramFlags

from kvmtools.api.adopted import adopt, note_of_guest
from kvmtools.companions.drgn.symbols import find_symbols_for
from kvmtools.errors import KvmtoolsError
from kvmtools.show.printable import told

LOGGER = logging.getLogger("drgn")
"""drgn's own: it says how its messages look, and ``-q`` silences them."""

_NO_NOTE = (
    "kvmtools: no kernel of i386 that drgn could look at runs in this guest: its VMCOREINFO is nowhere in memory "
    "(has it booted? it needs CONFIG_KEXEC or CONFIG_CRASH_DUMP; kvmtools shell can do without)"
)
_WIDE = (
    "kvmtools: this core is an ELF64 file, so drgn takes i386 pointers for 8 bytes wherever a script spells their type "
    "('struct page *'): start it as drgn --architecture i386 -c CORE"
)


def adopt_program(prog: Program) -> None:
    """Virtual memory by the guest's page tables, symbols where KASLR put them, our commands."""
    try:
        if not prog.flags & ProgramFlags.IS_LINUX_KERNEL:
            _tell_of_kernel(prog)
            return
        adopted = adopt(prog)
    except KvmtoolsError as error:
        LOGGER.warning("kvmtools: nothing can be read of this guest: %s", told(error))
        return
    if prog.platform is not None and prog.platform.flags & PlatformFlags.IS_64_BIT:
        LOGGER.warning(_WIDE)
    find_symbols_for(prog, adopted)
    import_module("kvmtools.companions.drgn.commands")  # which registers them


def _tell_of_kernel(prog: Program) -> None:
    """Give drgn the kernel's note that it could not have; then it calls us again."""
    note = note_of_guest(prog)
    if note is None:
        LOGGER.warning(_NO_NOTE)
    else:
        prog.set_linux_kernel_custom(note, is_live=True)

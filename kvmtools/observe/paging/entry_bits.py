"""Names for the bits of a page table entry.

Source: Intel SDM vol. 3A, tables 4-4 to 4-11; names as in arch/x86/include/asm/pgtable_types.h.
"""

from __future__ import annotations

from kvmtools.observe.paging.forms import LARGE, NO_EXECUTE, PRESENT, USER, WRITABLE, Form, Level

#: Bits that mean the same wherever they are defined, in the order in which they are told.
_COMMON = (
    (PRESENT, "P"),
    (WRITABLE, "RW"),
    (USER, "US"),
    (1 << 3, "PWT"),
    (1 << 4, "PCD"),
    (1 << 5, "A"),
)
_LEAF = ((1 << 6, "D"),)
_GLOBAL = ((1 << 8, "G"),)
_SOFTWARE = ((1 << 9, "SW1"), (1 << 10, "SW2"), (1 << 11, "SW3"))
_NX = ((NO_EXECUTE, "NX"),)

_TABLE_BITS = (*_COMMON, *_SOFTWARE, *_NX)
_LARGE_BITS = (*_COMMON, *_LEAF, (LARGE, "PSE"), *_GLOBAL, (1 << 12, "PAT"), *_SOFTWARE, *_NX)
_PAGE_BITS = (*_COMMON, *_LEAF, (LARGE, "PAT"), *_GLOBAL, *_SOFTWARE, *_NX)

#: ``_PAGE_PROTNONE``: in an entry that is not present, G means a page that the kernel keeps from its user.
_PROTNONE = 1 << 8


def flag_names(entry: int, level: Level) -> tuple[str, ...]:
    """Names of the flags that are set in ``entry``, lowest bit first and NX last.

    An entry that is not present has no flags but ``PROTNONE``: its other bits are the kernel's own (swap).
    """
    if not entry & PRESENT:
        return ("PROTNONE",) if entry & _PROTNONE else ()
    return tuple(name for bit, name in _bits(entry, level) if entry & bit)


def flags_text(entry: int, level: int, form: Form) -> str:
    """``"P RW A D PSE G NX"``; ``"not present"``; ``"none"`` for an entry of all zeros.

    :param level: counted from 1 at the table of 4 KiB pages
    """
    names = flag_names(entry, form.level(level))
    if entry & PRESENT:
        return " ".join(names)
    return " ".join(("not present", *names)) if entry else "none"


def is_leaf(entry: int, level: Level) -> bool:
    """Whether a present ``entry`` of this level maps memory instead of leading to a table."""
    return level.number == 1 or bool(level.large and entry & LARGE)


def _bits(entry: int, level: Level) -> tuple[tuple[int, str], ...]:
    if level.number == 1:
        return _PAGE_BITS
    return _LARGE_BITS if is_leaf(entry, level) else _TABLE_BITS

"""Whole pages and whole blocks, rounded with the kernel's own macros.

Source: include/linux/math.h (DIV_ROUND_UP, roundup, rounddown) and pfn.h (PFN_UP), 6.1.  Any unit will
do, not only powers of two.
"""

from __future__ import annotations

from kvmtools.records import PAGE_SIZE


def div_round_up(number: int, unit: int) -> int:
    """How many units it takes to hold ``number``."""
    return -(-number // unit)


def roundup(number: int, unit: int) -> int:
    """The first multiple of ``unit`` that is not below ``number``."""
    return div_round_up(number, unit) * unit


def rounddown(number: int, unit: int) -> int:
    """The last multiple of ``unit`` that is not above ``number``."""
    return number // unit * unit


def pfn_up(size: int) -> int:
    """Pages that it takes to hold ``size`` bytes; of an address, the first page that does not begin below it."""
    return div_round_up(size, PAGE_SIZE)

"""The ways a person writes an address or a page."""

from __future__ import annotations

import re
from collections.abc import Callable

from kvmtools.errors import SymbolsError, UsageError
from kvmtools.records import PAGE_SHIFT

LONGEST_CR3 = 32  # outside long mode CR3 has 32 bits (SDM vol. 3A, 2.5)
LONGEST_PHYSICAL = 52  # SDM vol. 3A, 4.1.4: no x86 has more

FORMS = "0xc1000000, c1000000, symbol or symbol+0x10"
PAGE_FORMS = "a pfn (1234 or 0x4d2), phys:0x4d2000, or the address of a struct page"

_PREFIXED = re.compile(r"0[xX][0-9a-fA-F]+")
_AS_PRINTED = re.compile(r"[0-9a-fA-F]{8}")  # %08lx, as the kernel prints a pointer
_SYMBOL = re.compile(r"([A-Za-z_.$][\w.$]*)(?:([+-])(0[xX][0-9a-fA-F]+|[0-9]+))?")


def virtual_address(text: str, symbol: Callable[[str], int], bits: int, *, is_end: bool = False) -> int:
    """The virtual address that ``text`` means.

    :param symbol: address of a symbol by its name, :exc:`SymbolsError` if there is none
    :param bits: of a virtual address
    :param is_end: whether it is the first address behind a range: then that may be the whole space
    :raises UsageError: if it is not an address in one of :data:`FORMS`
    """
    if text == "0" or _PREFIXED.fullmatch(text) or _AS_PRINTED.fullmatch(text):
        return _limited(int(text, 16), text, bits, is_end=is_end)
    match = _SYMBOL.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text}' is not an address", hint=f"write {FORMS}")
    name, sign, offset = match.groups()
    try:
        base = symbol(name)
    except SymbolsError as error:
        raise UsageError(
            f"'{text}' is neither an address nor a symbol of the vmlinux", hint=f"write {FORMS}"
        ) from error
    distance = 0
    if offset is not None:
        distance = int(offset, 16 if offset[:2].lower() == "0x" else 10)
    return _limited(base - distance if sign == "-" else base + distance, text, bits, is_end=is_end)


def physical_address(text: str, bits: int = LONGEST_PHYSICAL) -> int:
    """A guest-physical address, hexadecimal, of at most ``bits`` bits.

    :raises UsageError: if it is none
    """
    if not re.fullmatch(r"(0[xX])?[0-9a-fA-F]+", text):
        raise UsageError(
            f"'{text}' is not a physical address", hint="write it in hexadecimal, such as 0x1473000"
        )
    return _limited(int(text, 16), text, bits)


def page_frame(text: str, page_offset: int, page_to_pfn: Callable[[int], int], bits: int) -> int:
    """The pfn that ``text`` means; a number at or above ``page_offset`` is the address of a ``struct page``.

    :param bits: of a virtual address
    :raises UsageError: if it is not one of :data:`PAGE_FORMS`
    """
    if text.startswith("phys:"):
        return physical_address(text.removeprefix("phys:")) >> PAGE_SHIFT
    if text.isascii() and text.isdigit():
        number = int(text)
    elif _PREFIXED.fullmatch(text) or _AS_PRINTED.fullmatch(text):
        number = int(text, 16)
    else:
        raise UsageError(f"'{text}' is not a page", hint=f"write {PAGE_FORMS}")
    return page_to_pfn(_limited(number, text, bits)) if number >= page_offset else number


def is_symbol(text: str) -> bool:
    """Whether ``text`` names a place by a symbol, and not by a number."""
    return not (text == "0" or _PREFIXED.fullmatch(text) or _AS_PRINTED.fullmatch(text))


def _limited(number: int, text: str, bits: int, *, is_end: bool = False) -> int:
    if not 0 <= number < (1 << bits) + is_end:
        raise UsageError(f"'{text}' does not fit in {bits} bits")
    return number

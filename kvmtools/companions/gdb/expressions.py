"""Between gdb's values and numbers."""

from __future__ import annotations

from collections.abc import Iterable

import gdb

_OPERATORS = frozenset("$*&()[]>")
_HAVE_ADDRESS = (gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_FUNC, gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)


def number(value: gdb.Value) -> int:
    """A value as a number that is not negative.

    :raises gdb.error: if it is none
    """
    found = int(value)
    return found if found >= 0 else found + (1 << 8 * value.type.sizeof)


def with_numbers(words: Iterable[str]) -> list[str]:
    """The words of a command; of those that are gdb's expressions, the numbers, in hex.

    Numbers and symbols are left to kvmtools: it knows them by itself, moved by KASLR.

    :raises gdb.error: if gdb cannot evaluate one
    """
    return [_with_number(word) for word in words]


def _with_number(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if value.startswith("-") or not _is_expression(value):
        return word
    return f"{option}{equals}{_address(gdb.parse_and_eval(value)):#x}"


def _is_expression(word: str) -> bool:
    return not _OPERATORS.isdisjoint(word) or _is_local(word)


def _is_local(name: str) -> bool:
    """Whether it is a variable of the function that is stopped in."""
    try:
        symbol, _is_field = gdb.lookup_symbol(name)
    except gdb.error:  # no frame, or none that gdb knows the function of
        return False
    return symbol is not None and symbol.needs_frame


def _address(value: gdb.Value) -> int:
    """The number that a value is, or where it lies, for one that is no number."""
    if value.type.strip_typedefs().code not in _HAVE_ADDRESS:
        return number(value)
    if value.address is None:
        raise gdb.GdbError("this value is in no memory, and no address")
    return number(value.address)

"""The kernel's command line, read as the kernel reads it.

Source: lib/cmdline.c (next_arg, memparse), 6.1.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_SUFFIXES = "KMGTPE"


def options(command_line: str) -> list[tuple[str, str | None]]:
    """``(name, value)`` of every option in order; value is ``None`` without ``=``.

    Double quotes hold spaces together, ``-`` and ``_`` in a name are the same letter, and what follows a
    bare ``--`` belongs to init.
    """
    found: list[tuple[str, str | None]] = []
    for word in re.findall(r'(?:[^\s"]|"[^"]*"?)+', command_line):
        if word == "--":
            break
        name, equals, value = word.partition("=")
        found.append((name.strip('"').replace("-", "_"), value.strip('"') if equals else None))
    return found


def values(command_line: str, name: str) -> list[str]:
    """Every value given to option ``name``, in order."""
    return [value for option, value in options(command_line) if option == name and value is not None]


def size(command_line: str, name: str) -> int | None:
    """The last ``name=nn[KMGTPE]`` in bytes: a later one replaces an earlier one."""
    given = values(command_line, name)
    return memparse(given[-1])[0] if given else None


def memparse(text: str) -> tuple[int, str]:
    """A number with an optional suffix K … E, and the rest of ``text``; no number gives 0.

    The base is C's: ``0x`` is hexadecimal, a leading ``0`` octal.
    """
    value, rest = number(text)
    power = _SUFFIXES.find(rest[:1].upper()) + 1 if rest else 0
    return value << (10 * power), rest[1:] if power else rest


def number(text: str) -> tuple[int, str]:
    """The number that ``text`` starts with, as C's ``strtoull`` reads it, and the rest; no number gives 0."""
    match = _NUMBER.match(text)
    if match is None:
        return 0, text
    digits = match.group()
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16), text[match.end() :]
    if digits[0] != "0":
        return int(digits, 10), text[match.end() :]
    octal = re.match(r"[0-7]+", digits)
    assert octal is not None
    return int(octal.group(), 8), text[octal.end() :]

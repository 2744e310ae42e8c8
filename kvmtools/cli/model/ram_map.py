"""RAM maps as people have them: typed ranges, ``/proc/iomem``, the lines of a boot log."""

from __future__ import annotations

import os
import re

from kvmtools.cli.scripts import STDIN, read_text
from kvmtools.errors import UsageError
from kvmtools.model.command_line import memparse
from kvmtools.model.memory.ram import ACPI, RAM, RESERVED
from kvmtools.records import PAGE_SIZE, E820Entry

PHYSICAL_BITS = 52
"""SDM vol. 3A, 4.1.4: no x86 has more."""
_LONGEST = 40
"""Characters of a size; Python refuses to read numbers of thousands of digits."""
_TYPES = {"usable": RAM, "System RAM": RAM, "ACPI data": ACPI, "ACPI Tables": ACPI, "ACPI NVS": 4}

_FRACTION = re.compile(r"([0-9]+)\.([0-9]+)([KMGT])", re.IGNORECASE)
# What begins like a range was meant as ranges, unless there is a file of that name.
_RANGES = re.compile(r"\s*[0-9][0-9a-zA-Z.]*\s*(-|,|$)")
_HEX = r"(?:0x)?([0-9a-f]{1,16})"
_FIRMWARE = "BIOS-(?:e820|88|e801): "
# A nested resource is indented; only what stands at the margin is a range of the firmware's.
_IOMEM = re.compile(rf"^{_HEX}-{_HEX} : (.+)$", re.IGNORECASE)
# "BIOS-e820: [mem 0x0-0x9fbff] usable" since 3.x, with the last byte; before, with the end:
# "BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)".  In 7.2 two blanks and "System RAM", as /proc/iomem has it.
_LOG = re.compile(rf"{_FIRMWARE}\[mem {_HEX}-{_HEX}\] +(.+)$", re.IGNORECASE)
_OLD_LOG = re.compile(rf"{_FIRMWARE}{_HEX} - {_HEX} (?:\((.+)\)|type [0-9]+)$", re.IGNORECASE)
_FORMS = ((_IOMEM, 1), (_LOG, 1), (_OLD_LOG, 0))
"""How a range is written, and how far its second number is from the first byte after it."""
# What was meant as one of these: nothing of a RAM map is dropped unsaid.  7.2 has lines for the gaps, too.
_MEANT = re.compile(
    rf"^[0-9a-f]\w*\s*-\s*\w*\s+:\s|^(?:0x)?[0-9a-f]{{8,}}\s*-\s*(?:0x)?[0-9a-f]{{8,}}\b|{_FIRMWARE}(?!\[gap )",
    re.IGNORECASE,
)


def ram_map(text: str) -> tuple[E820Entry, ...]:
    """The map that ``--e820`` means: ranges, or the name of a file, ``-`` for stdin.

    :raises UsageError: if it is neither, or has no usable RAM
    """
    if not text.strip():
        raise UsageError("the RAM map is empty", hint=_HINT)
    return _typed(text) if _RANGES.match(text) and not os.path.isfile(text) else _read(text)


def amount(text: str) -> int | None:
    """Bytes, written as the kernel's command line writes them, or as ``1.5G``, which is rounded down to a page.

    :returns: ``None`` if that is no size

    :raises UsageError: if no x86 has so much
    """
    text = text.strip()
    if len(text) > _LONGEST or not text[:1].isdigit():
        return None
    if fraction := _FRACTION.fullmatch(text):
        whole, part, suffix = fraction.groups()
        value: int = int(whole + part) * memparse("1" + suffix)[0] // 10 ** len(part) & -PAGE_SIZE
        rest = ""
    else:
        value, rest = memparse(text)
    if rest:
        return None
    if value > 1 << PHYSICAL_BITS:
        raise UsageError(
            f"{text} is beyond the physical addresses of any x86",
            hint=f"they have {PHYSICAL_BITS} bits at most: 4096T",
        )
    return value


_HINT = "write 0-640K,1M-3G or name a file with lines of /proc/iomem or of a boot log (BIOS-e820: ...)"


def _typed(text: str) -> tuple[E820Entry, ...]:
    """``START-END,...``: half-open, each side written as the kernel's command line writes sizes."""
    entries = []
    for part in text.split(","):
        part = part.strip()
        words = part.split("-")
        if len(words) != 2:
            raise UsageError(f"{part!r} is no range", hint=_HINT)
        ends = []
        for word in words:
            value = amount(word)
            if value is None:
                raise UsageError(
                    f"{word!r} in {part!r} is no address", hint="they look like 640K, 1M, 1.5G, 0xa0000"
                )
            ends.append(value)
        start, end = ends
        if start >= end:
            raise UsageError(
                f"the range {part} is empty", hint="START-END, where END is the first byte after"
            )
        entries.append(E820Entry(start, end - start, RAM))
    return tuple(entries)


def _read(path: str) -> tuple[E820Entry, ...]:
    """The ranges of the firmware's that a file names.

    :raises UsageError: if it cannot be read, one of its ranges makes no sense, or there is no usable RAM
    """
    name = "stdin" if path == STDIN else f"the RAM map {path}"
    try:
        text = read_text(path, "the RAM map" if path == STDIN else name, errors="replace", hint=_HINT)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}", hint=_HINT) from None
    lines = enumerate(map(str.rstrip, text.splitlines()), 1)
    entries = [
        entry for number, line in lines if (entry := _line(f"{name}, line {number}", line)) is not None
    ]
    if entries and not any(entry.start or entry.size > 1 for entry in entries):
        raise UsageError(
            f"{name}: all addresses are 0",
            hint="/proc/iomem shows them to root only: sudo cat /proc/iomem > FILE, then --e820 FILE",
        )
    if not any(entry.type == RAM and entry.size for entry in entries):
        raise UsageError(f"{name} has no usable RAM", hint=_HINT)
    return tuple(entries)


def _line(where: str, line: str) -> E820Entry | None:
    """The range that a line names; ``None`` if it is about something else.

    :raises UsageError: if it was meant to name one
    """
    for form, past_last in _FORMS:
        if found := form.search(line):
            start, end = int(found[1], 16), int(found[2], 16) + past_last
            if end < start:
                raise UsageError(f"{where}: {line.strip()!r} ends before it begins")
            return E820Entry(start, end - start, _TYPES.get(found[3], RESERVED))
    if _MEANT.search(line):
        raise UsageError(f"{where}: {line.strip()!r} is no range", hint=_HINT)
    return None

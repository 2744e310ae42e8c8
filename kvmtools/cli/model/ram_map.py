"""RAM maps as people have them: typed ranges, ``/proc/iomem``, the lines of a boot log."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kvmtools.errors import UsageError
from kvmtools.model.command_line import memparse
from kvmtools.model.ram import ACPI, RAM, RESERVED
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
# A nested resource is indented; only what stands at the margin is a range of the firmware's.
_IOMEM = re.compile(rf"^{_HEX}-{_HEX} : (.+)$")
# "BIOS-e820: [mem 0x0-0x9fbff] usable" since 3.x, with the last byte; before, with the end:
# "BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)".  In 7.2 two blanks and "System RAM", as /proc/iomem has it.
_LOG = re.compile(rf"BIOS-(?:e820|88|e801): \[mem {_HEX}-{_HEX}\] +(.+)$")
_OLD_LOG = re.compile(rf"BIOS-(?:e820|88|e801): {_HEX} - {_HEX} \((.+)\)$")


def ram_map(text: str) -> tuple[E820Entry, ...]:
    """The map that ``--e820`` means: ranges, or the name of a file.

    :raises UsageError: if it is neither, or has no usable RAM
    """
    if not text.strip():
        raise UsageError("the RAM map is empty", hint=_FORMS)
    entries = _typed(text) if _RANGES.match(text) and not os.path.isfile(text) else _read(Path(text))
    if not any(entry.type == RAM and entry.size for entry in entries):
        raise UsageError(
            f"{text} has no usable RAM",
            hint="/proc/iomem shows its addresses to root only" if entries else _FORMS,
        )
    return entries


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


_FORMS = "write 0-640K,1M-3G or name a file with lines of /proc/iomem or of a boot log (BIOS-e820: ...)"


def _typed(text: str) -> tuple[E820Entry, ...]:
    """``START-END,...``: half-open, each side written as the kernel's command line writes sizes."""
    entries = []
    for part in text.split(","):
        part = part.strip()
        words = part.split("-")
        if len(words) != 2:
            raise UsageError(f"{part!r} is no range", hint=_FORMS)
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


def _read(path: Path) -> tuple[E820Entry, ...]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read the RAM map {path}: {error.strerror}", hint=_FORMS) from None
    return tuple(entry for line in lines if (entry := _line(line.rstrip())) is not None)


def _line(line: str) -> E820Entry | None:
    for form, past_last in ((_IOMEM, 1), (_LOG, 1), (_OLD_LOG, 0)):
        if found := form.search(line):
            start, last = int(found[1], 16), int(found[2], 16)
            return E820Entry(start, max(0, last + past_last - start), _TYPES.get(found[3], RESERVED))
    return None

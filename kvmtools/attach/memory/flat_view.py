"""Where QEMU put the guest's RAM: the flat view of its system address space.

The PCI hole's place depends on the machine type, the RAM size and ``max-ram-below-4g``; only the QEMU in
question knows. Its ``info mtree -f`` says, after all overlaps are resolved, which block of memory answers
at which guest-physical address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError

_REGION = re.compile(
    r"^\s+(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16}) \(prio -?\d+, (?P<kind>[^)]+)\): "
    r"(?P<block>.+?)(?: @(?P<offset>[0-9a-f]+))?(?: KVM)?$"
)


@dataclass(frozen=True, slots=True)
class Backed:
    """Guest-physical ``[start, end)`` is ``[offset, ...)`` of the memory block named ``block``."""

    start: int
    end: int
    block: str
    offset: int


def ram(monitor: Monitor) -> tuple[Backed, ...]:
    """The guest's RAM, sorted by address.

    RAM is what lies in the blocks of the machine's memory backends.  That leaves out devices' memory (a
    frame buffer) and firmware in ROM, and keeps RAM that the chipset write-protects: firmware copied to RAM
    below 1 MiB.

    :raises AttachError: if this QEMU does not tell
    """
    return parse(monitor.hmp("info mtree -f"), set(monitor.backends()))


def parse(mtree: str, backends: set[str]) -> tuple[Backed, ...]:
    """The RAM in the text of ``info mtree -f``; ``backends`` are the ids of the memory backends.

    The block at address 0 is the machine's own RAM even where QEMU lists no backend for it.

    :raises AttachError: if there is no RAM at address 0
    """
    regions = [found for line in _system_view(mtree) if (found := _region(line))]
    main = next((region.block for region in regions if region.start == 0), None)
    if main is None:
        raise AttachError("QEMU shows no RAM at guest-physical address 0", hint="see its `info mtree -f`")
    # A backend's block may be named by the last part of its path or by the whole of it (/objects/ram).
    return tuple(_joined(r for r in regions if r.block == main or r.block.rpartition("/")[2] in backends))


def _joined(regions: Iterable[Backed]) -> Iterator[Backed]:
    """Neighbours that are one piece of the same block as one: firmware's write protection cuts RAM to
    slices."""
    last: Backed | None = None
    for region in regions:
        if last and (last.end, last.block, last.offset + last.end - last.start) == (
            region.start,
            region.block,
            region.offset,
        ):
            last = Backed(last.start, region.end, last.block, last.offset)
            continue
        if last:
            yield last
        last = region
    if last:
        yield last


def _system_view(mtree: str) -> list[str]:
    """Lines of the flat view that the CPUs use outside system management mode."""
    for view in mtree.split("FlatView #"):
        if re.search(r'^ AS "memory", root: system', view, re.MULTILINE):
            return view.splitlines()
    return []


def _region(line: str) -> Backed | None:
    found = _REGION.match(line)
    if found is None or found["kind"] not in ("ram", "rom"):
        return None
    start, end = int(found["first"], 16), int(found["last"], 16) + 1
    return Backed(start, end, found["block"], int(found["offset"] or "0", 16))

"""The resource tree behind /proc/iomem: which physical addresses are RAM, and what lies in them.

Source: ``struct resource``, include/linux/ioport.h; ``iomem_resource``, kernel/resource.c (6.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from kvmtools.errors import MemoryFault
from kvmtools.observe.broken import Broken, noted
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.per_cpu import physical_ranges, read_virtual
from kvmtools.observe.structure import Structure, c_string
from kvmtools.records import PAGE_SIZE, Range

_TYPE = "struct resource"
_ROOT = "iomem_resource"
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Resource:
    """One line of /proc/iomem; ``end`` is the first address behind it, ``depth`` its indentation."""

    start: int
    end: int
    name: str
    flags: int
    """``IORESOURCE_*``, raw."""
    depth: int


def needs(kernel: Kernel) -> Iterator[Range]:
    """Physical ranges that :func:`observe_resources` reads: the tree is walked."""
    for record, _depth in _tree(kernel):
        yield from physical_ranges(kernel, record.address, len(record.data))
        for start, size in _name_pieces(record.unsigned("name")):
            with suppress(MemoryFault):
                yield from physical_ranges(kernel, start, size)


def observe_resources(kernel: Kernel, broken: list[Broken] | None = None) -> tuple[Resource, ...]:
    """All resources in the order of /proc/iomem.

    :param broken: takes what ends the tree too early
    """
    found: list[Resource] = []
    with noted(broken, _ROOT, "struct resource: child, sibling"):
        for record, depth in _tree(kernel):
            name = _name(kernel, record.unsigned("name"))
            start, end = record.unsigned("start"), record.unsigned("end") + 1
            found.append(Resource(start, end, name, record.unsigned("flags"), depth))
    return tuple(found)


def _tree(kernel: Kernel) -> Iterator[tuple[Structure, int]]:
    """Children before siblings, without the root.

    :raises MemoryFault: if the tree leads outside what the kernel maps, was not captured, or is no tree
    """
    root = Structure(kernel, _TYPE, kernel.address(_ROOT))
    waiting, visited = [(root.unsigned("child"), 0)], set[int]()
    while waiting:
        address, depth = waiting.pop()
        if not address:
            continue
        if address in visited:
            raise MemoryFault(address, "the resource tree does not end: it leads here twice", space="virtual")
        visited.add(address)
        record = Structure(kernel, _TYPE, address)
        yield record, depth
        waiting.append((record.unsigned("sibling"), depth))
        waiting.append((record.unsigned("child"), depth + 1))


def _name(kernel: Kernel, address: int) -> str:
    text = b""
    for start, size in _name_pieces(address):
        try:
            text += read_virtual(kernel, start, size)
        except MemoryFault:
            break
        if b"\0" in text:
            break
    return c_string(text)


def _name_pieces(address: int) -> Iterator[tuple[int, int]]:
    """A string of unknown length, up to the end of its page and then on: it may be the last thing mapped."""
    if not address:
        return
    first = min(_LONGEST_NAME, PAGE_SIZE - address % PAGE_SIZE)
    yield address, first
    if first < _LONGEST_NAME:
        yield address + first, _LONGEST_NAME - first

"""Which page frames are RAM: the firmware's map, edited by the command line, trimmed as the kernel does.

Source: arch/x86/kernel/e820.c (parse_memopt, parse_memmap_one, e820__update_table, e820_end_pfn,
e820__memblock_setup), arch/x86/kernel/setup.c (e820_add_kernel_range, trim_bios_range), mm/memblock.c
(memblock_trim_memory), 5.10 to 7.2; arch/i386/kernel/setup.c (copy_e820_map, parse_cmdline_early, find_max_pfn), 2.4.18
and 2.6.18.

The map must be the firmware's (``e820_table_firmware``), not the ``e820_table`` that already carries these edits.  Each
of them is a projection, but several ``memmap=`` that turn types into one another, replayed, may end elsewhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.command_line import memparse, number, options
from kvmtools.model.eras import Era
from kvmtools.model.rounding import pfn_up
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, E820Entry, Range

RAM = 1
RESERVED = 2
ACPI = 3
PRAM = 12

BIOS = Range(0xA0000, 0x100000)
"""Video memory and BIOS: never RAM, whatever the firmware says."""
ISA_END = BIOS.end

_EVERYTHING = 1 << 64
_TYPE_OF_SEPARATOR = {"@": RAM, "#": ACPI, "$": RESERVED, "!": PRAM}


@dataclass(frozen=True, slots=True)
class Ram:
    """RAM as sorted, disjoint pfn ranges, and ``end_pfn``, the kernel's first idea of ``max_pfn``."""

    ranges: tuple[Range, ...]
    end_pfn: int
    _starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", tuple(r.start for r in self.ranges))

    def __contains__(self, pfn: int) -> bool:
        index = bisect_right(self._starts, pfn) - 1
        return index >= 0 and pfn in self.ranges[index]

    def within(self, start: int, end: int) -> Iterator[Range]:
        """The parts of ``[start, end)`` that are RAM."""
        for r in self.ranges:
            if max(r.start, start) < min(r.end, end):
                yield Range(max(r.start, start), min(r.end, end))

    def holes(self, start: int, end: int) -> Iterator[Range]:
        """The parts of ``[start, end)`` that are not RAM."""
        for r in self.within(start, end):
            if start < r.start:
                yield Range(start, r.start)
            start = r.end
        if start < end:
            yield Range(start, end)

    def below(self, pfn: int) -> Ram:
        """What of it lies below ``pfn``; the end that the firmware told stays."""
        return Ram(tuple(self.within(0, pfn)), self.end_pfn)

    def pages(self, start: int, end: int) -> int:
        """How many pfns of ``[start, end)`` are RAM."""
        return sum(len(r) for r in self.within(start, end))


def usable(configuration: Configuration) -> Ram:
    """The RAM that this kernel uses.

    :raises UsageError: if the command line or the map leaves none
    """
    era = eras.shown(configuration.marks)
    table = _Table(configuration.e820)
    if era.bios_area_trimmed:
        table.change(BIOS.start, BIOS.end, RAM, None)
    table.follow(configuration.command_line, era)
    if era.ram_trimmed:
        _trim(table, configuration)
    entries = table.sanitized()

    ending = [e for e in entries if e.type in era.ram_end_types]
    if era.ram_end_limited:
        reach = 1 << (36 if configuration.pae else 32)
        ending = [_Entry(e.start, min(e.end, reach), e.type) for e in ending if e.start < reach]
    end_pfn = max((e.end >> PAGE_SHIFT for e in ending), default=0)

    memory = [e for e in entries if e.type in era.ram_types]
    if era.ram_must_fit:
        phys_addr_limit = 1 << (64 if configuration.pae else 32)
        memory = [e for e in memory if e.end < phys_addr_limit]
    ranges = tuple(_whole_pages(joined(Range(e.start, e.end) for e in memory)))
    if not ranges or not end_pfn:
        raise UsageError(
            "the memory map has no usable RAM", hint="look at mem= and memmap= on the guest's command line"
        )
    return Ram(ranges, end_pfn)


@dataclass(slots=True)
class _Entry:
    start: int
    end: int
    type: int


class _Table:
    """The kernel's ``struct e820_table``: entries may overlap until they are sanitized."""

    def __init__(self, entries: Iterable[E820Entry]) -> None:
        self.entries = [_Entry(e.start, e.start + e.size, e.type) for e in entries if e.size]

    def follow(self, command_line: str, era: Era) -> None:
        """Apply ``mem=`` and ``memmap=`` in the order in which they stand."""
        for name, value in options(command_line):
            if name == "mem" and value is not None:
                self._mem(value, era)
            elif name == "memmap" and value is not None and era.memmap_forms:
                for part in value.split(",")[: None if era.memmap_list else 1]:
                    self._memmap(part, era.memmap_forms)

    def _mem(self, text: str, era: Era) -> None:
        size, rest = memparse(text)
        if era.mem_edits and text.startswith("exactmap"):
            self.entries.clear()
        elif era.mem_edits and rest.startswith("@"):
            start = memparse(rest[1:])[0]
            self.add(start, start + size, RAM)
        elif size:
            self.change(size, _EVERYTHING, RAM, None)

    def _memmap(self, text: str, forms: str) -> None:
        if text.startswith("exactmap"):
            self.entries.clear()
        if not text[:1].isdigit():
            return
        size, rest = memparse(text)
        separator, where = rest[:1], rest[1:]
        start, rest = memparse(where)
        if not separator or separator not in forms:
            self.change(size, _EVERYTHING, RAM, None)
        elif separator == "%":
            old, rest = number(rest[1:]) if rest.startswith("-") else (0, rest)
            new, rest = number(rest[1:]) if rest.startswith("+") else (0, rest)
            if rest:
                return
            if new and not old:
                self.add(start, start + size, new)
            else:
                self.change(start, start + size, old or None, new or None)
        else:
            self.add(start, start + size, _TYPE_OF_SEPARATOR[separator])

    def add(self, start: int, end: int, kind: int) -> None:
        """One more entry, possibly over others."""
        self.entries.append(_Entry(start, end, kind))

    def change(self, start: int, end: int, old: int | None, new: int | None) -> None:
        """Within ``[start, end)`` turn type ``old`` (``None``: any) into ``new`` (``None``: nothing)."""
        kept: list[_Entry] = []
        for e in self.entries:
            if old is not None and e.type != old:
                kept.append(e)
                continue
            kept.append(_Entry(e.start, min(e.end, start), e.type))
            kept.append(_Entry(max(e.start, end), e.end, e.type))
            if new is not None:
                kept.append(_Entry(max(e.start, start), min(e.end, end), new))
        self.entries = [e for e in kept if e.start < e.end]

    def sanitized(self) -> list[_Entry]:
        """Sorted, without overlap: where entries overlap the larger type number wins."""
        edges = sorted({edge for e in self.entries for edge in (e.start, e.end)})
        flat: list[_Entry] = []
        for start, end in pairwise(edges):
            kinds = [e.type for e in self.entries if e.start <= start and end <= e.end]
            if not kinds:
                continue
            if flat and flat[-1].end == start and flat[-1].type == max(kinds):
                flat[-1].end = end
            else:
                flat.append(_Entry(start, end, max(kinds)))
        return flat


def _trim(table: _Table, configuration: Configuration) -> None:
    """The kernel's own image is RAM by definition; page 0 and the BIOS area are not."""
    sections = configuration.image.sections
    if "_text" in sections and "_end" in sections:
        start, end = (sections[name] - configuration.page_offset for name in ("_text", "_end"))
        table.change(start, end, None, None)
        table.add(start, end, RAM)
    table.change(0, PAGE_SIZE, RAM, RESERVED)
    table.change(BIOS.start, BIOS.end, RAM, None)


def joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Ranges that touch become one, as memblock_add() merges them; the input is sorted and disjoint."""
    current = Range(0, 0)
    for r in ranges:
        if r.start == current.end:
            current = Range(current.start, r.end)
            continue
        # Not len(): a map that was overwritten may have ranges larger than Python's lengths.
        if current.start < current.end:
            yield current
        current = r
    if current.start < current.end:
        yield current


def _whole_pages(ranges: Iterable[Range]) -> Iterator[Range]:
    """Bytes to pfns; partial pages at either end are dropped."""
    for r in ranges:
        pages = Range(pfn_up(r.start), r.end // PAGE_SIZE)
        if len(pages):
            yield pages

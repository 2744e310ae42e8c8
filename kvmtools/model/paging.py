"""Page tables as the processor reads them: a form is a table of field widths, a walk is one plain recursion.

Source: Intel SDM volume 3A, chapter 4: 4.3 (32-bit paging, with PSE-36), 4.4 (PAE paging), 4.6 (access
rights); table 4-8 for what a PDPTE may hold.  Levels carry the kernel's names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvmtools.errors import MemoryFault, UsageError
from kvmtools.records import Configuration, Mapping

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
PAGE_SIZE_BIT = 1 << 7
NX = 1 << 63

Read = Callable[[int, int], bytes]
"""``read(physical, size)``; raises :class:`MemoryFault` where there is no RAM."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of tables: which address bits index it, and which bits of its entries mean what."""

    name: str
    number: int
    """1 for the table of 4 KiB pages, and upwards."""
    shift: int
    bits: int
    next_table: int
    """Mask of the address bits in an entry that leads to a table; 0 where every entry is a leaf."""
    leaf: int
    """Mask of the address bits in a leaf; 0 where no leaf is possible."""
    reserved: int
    """Bits that must be zero in an entry that leads to a table."""
    leaf_reserved: int
    permissions: bool = True
    """Whether R/W, U/S and XD of this level count; a PDPTE has none."""
    leaf_high: tuple[int, int] | None = None
    """PSE-36: ``(mask, shift)``; the masked bits of a leaf, shifted left, are the address above 4 GiB."""

    @property
    def span(self) -> int:
        """Bytes of virtual space behind one entry."""
        return 1 << self.shift

    def is_leaf(self, entry: int) -> bool:
        return not self.next_table or bool(self.leaf and entry & PAGE_SIZE_BIT)

    def physical(self, entry: int) -> int:
        """Where a leaf leads."""
        address = entry & self.leaf
        if self.leaf_high is not None:
            mask, shift = self.leaf_high
            address |= (entry & mask) << shift
        return address


@dataclass(frozen=True, slots=True)
class PagingForm:
    """Levels from the root downwards, the format of an entry, and the address bits of CR3."""

    name: str
    entry: str
    """:mod:`struct` letter of one entry."""
    root: int
    levels: tuple[Level, ...]

    @property
    def entry_size(self) -> int:
        return struct.calcsize(self.entry)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why ``virtual`` leads nowhere: the entry that stops the walk, and the reason in words."""

    virtual: int
    level: str
    table: int
    index: int
    entry: int | None
    """``None`` if the table itself could not be read."""
    reason: str

    def __str__(self) -> str:
        raw = "" if self.entry is None else f" = {self.entry:#x}"
        return f"{self.virtual:#010x}: {self.level}[{self.index}] at {self.table:#x}{raw}: {self.reason}"


def _bits(high: int, low: int) -> int:
    """The mask of bits ``high:low``, written as the SDM's tables write it; empty if ``high < low``."""
    return (1 << (high + 1)) - (1 << low) if high >= low else 0


def non_pae(*, pse: bool = True, physical_bits: int = 32) -> PagingForm:
    """Two levels of 4-byte entries.

    :param pse: CR4.PSE: without it bit 7 of a directory entry means nothing and there are no 4 MiB pages
    :param physical_bits: MAXPHYADDR; above 32 a 4 MiB page carries its address bits 39:32 in bits 20:13
        (PSE-36)
    """
    high_bits = min(max(physical_bits, 32), 40) - 32
    directory = Level(
        name="pgd",
        number=2,
        shift=22,
        bits=10,
        next_table=_bits(31, 12),
        leaf=_bits(31, 22) if pse else 0,
        reserved=0,
        leaf_reserved=_bits(21, 13 + high_bits),
        leaf_high=(_bits(12 + high_bits, 13), 32 - 13),
    )
    table = Level(
        name="pte", number=1, shift=12, bits=10, next_table=0, leaf=_bits(31, 12), reserved=0, leaf_reserved=0
    )
    return PagingForm("non-PAE", "I", _bits(31, 12), (directory, table))


def pae(*, nx: bool = True, physical_bits: int = 52) -> PagingForm:
    """Three levels of 8-byte entries, the first a table of four that need only be 32-byte aligned.

    :param nx: EFER.NXE: without it bit 63 is reserved
    :param physical_bits: MAXPHYADDR: address bits from there on are reserved
    """
    address = physical_bits - 1
    beyond = _bits(62 if nx else 63, physical_bits)
    pointers = Level(
        name="pgd",
        number=3,
        shift=30,
        bits=2,
        next_table=_bits(address, 12),
        leaf=0,
        # Bit 5 is reserved by table 4-8, but QEMU's TCG notes the access there as in any other entry.
        reserved=_bits(63, physical_bits) | _bits(8, 6) | _bits(2, 1),
        leaf_reserved=0,
        permissions=False,
    )
    directory = Level(
        name="pmd",
        number=2,
        shift=21,
        bits=9,
        next_table=_bits(address, 12),
        leaf=_bits(address, 21),
        reserved=beyond,
        leaf_reserved=beyond | _bits(20, 13),
    )
    table = Level(
        name="pte",
        number=1,
        shift=12,
        bits=9,
        next_table=0,
        leaf=_bits(address, 12),
        reserved=0,
        leaf_reserved=beyond,
    )
    return PagingForm("PAE", "Q", _bits(31, 5), (pointers, directory, table))


def form_of(configuration: Configuration) -> PagingForm:
    """The form in which this kernel's processor reads its tables.

    :raises UsageError: if no processor has as many physical address bits
    """
    if configuration.physical_bits not in range(32, 53):
        raise UsageError(
            f"no x86 processor has {configuration.physical_bits} physical address bits (SDM 3A 4.1.4: up to 52)",
            hint="boot_cpu_data.x86_phys_bits of the guest may have been overwritten",
        )
    if configuration.pae:
        return pae(nx=configuration.nx, physical_bits=configuration.physical_bits)
    return non_pae(pse=configuration.pse, physical_bits=configuration.physical_bits)


def walk(
    read: Read,
    cr3: int,
    form: PagingForm,
    start: int = 0,
    end: int = 1 << 32,
    *,
    faults: list[Fault] | None = None,
) -> Iterator[Mapping]:
    """Every present leaf that touches ``[start, end)``, by ascending virtual address.

    A present entry that the processor would refuse (reserved bits set, a table outside RAM) maps nothing;
    it is appended to ``faults``.
    """
    malformed = [] if faults is None else faults
    yield from _walk(read, cr3 & form.root, form, 0, 0, start, end, (True, True, True), malformed)


def _walk(
    read: Read,
    table: int,
    form: PagingForm,
    depth: int,
    base: int,
    start: int,
    end: int,
    rights: tuple[bool, bool, bool],
    faults: list[Fault],
) -> Iterator[Mapping]:
    level = form.levels[depth]
    first = max(0, (start - base) >> level.shift)
    last = min((1 << level.bits) - 1, (end - 1 - base) >> level.shift)
    address = table + first * form.entry_size
    try:
        raw = read(address, (last - first + 1) * form.entry_size)
    except MemoryFault:
        faults.append(Fault(base, level.name, table, first, None, "the table is not in RAM"))
        return
    for index, entry in enumerate(struct.unpack(f"<{last - first + 1}{form.entry}", raw), first):
        if not entry & PRESENT:
            continue
        virtual = base + (index << level.shift)
        leaf = level.is_leaf(entry)
        reason = _refusal(level, entry, leaf)
        if reason:
            faults.append(Fault(virtual, level.name, table, index, entry, reason))
            continue
        below = _rights(level, entry, rights)
        if leaf:
            yield _mapping(level, virtual, table, index, entry, below)
        else:
            yield from _walk(
                read, entry & level.next_table, form, depth + 1, virtual, start, end, below, faults
            )


def translate(read: Read, cr3: int, virtual: int, form: PagingForm) -> Mapping | Fault:
    """The leaf that maps ``virtual``, or the entry that stops the walk."""
    table = cr3 & form.root
    base = 0
    rights = (True, True, True)
    for level in form.levels:
        index = (virtual >> level.shift) & ((1 << level.bits) - 1)
        base |= index << level.shift
        try:
            raw = read(table + index * form.entry_size, form.entry_size)
        except MemoryFault:
            return Fault(virtual, level.name, table, index, None, "the table is not in RAM")
        (entry,) = struct.unpack(f"<{form.entry}", raw)
        if not entry & PRESENT:
            return Fault(virtual, level.name, table, index, entry, "not present")
        leaf = level.is_leaf(entry)
        reason = _refusal(level, entry, leaf)
        if reason:
            return Fault(virtual, level.name, table, index, entry, reason)
        rights = _rights(level, entry, rights)
        if leaf:
            return _mapping(level, base, table, index, entry, rights)
        table = entry & level.next_table
    raise AssertionError("the lowest level holds leaves only")


def _refusal(level: Level, entry: int, leaf: bool) -> str:
    """Why the processor refuses a present entry; empty if it does not."""
    wrong = entry & (level.leaf_reserved if leaf else level.reserved)
    return f"reserved bits {wrong:#x} are set" if wrong else ""


def _rights(level: Level, entry: int, above: tuple[bool, bool, bool]) -> tuple[bool, bool, bool]:
    """(writable, user, executable): each level can only take away."""
    if not level.permissions:
        return above
    writable, user, executable = above
    return (
        writable and bool(entry & WRITABLE),
        user and bool(entry & USER),
        executable and not entry & NX,
    )


def _mapping(
    level: Level, virtual: int, table: int, index: int, entry: int, rights: tuple[bool, bool, bool]
) -> Mapping:
    writable, user, executable = rights
    return Mapping(
        virtual=virtual,
        physical=level.physical(entry),
        size=level.span,
        entry=entry,
        level=level.number,
        table=table,
        index=index,
        writable=writable,
        user=user,
        executable=executable,
    )

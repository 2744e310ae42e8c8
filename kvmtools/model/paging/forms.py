"""The forms of paging as tables of field widths: what a walk reads is data, so that there is one walk.

Source: Intel SDM volume 3A, chapter 4: 4.3 (32-bit paging, with PSE-36), 4.4 (PAE paging), 4.5 (4-level
paging); tables 4-4 to 4-20 for the entries, 4.1.4 for what CPUID says.  Levels carry the kernel's names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kvmtools.errors import UsageError
from kvmtools.records import Configuration, Range

PRESENT = 1
WRITABLE = 1 << 1
USER = 1 << 2
WRITE_THROUGH = 1 << 3
CACHE_DISABLE = 1 << 4
ACCESSED = 1 << 5
DIRTY = 1 << 6
PAGE_SIZE_BIT = 1 << 7
GLOBAL = 1 << 8
NX = 1 << 63


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
    """Whether R/W, U/S, XD and the accessed flag of this level exist; a PDPTE of PAE paging has none."""
    leaf_high: tuple[int, int] = (0, 0)
    """PSE-36: ``(mask, shift)``; the masked bits of a leaf, shifted left, are the address above 4 GiB."""

    @property
    def span(self) -> int:
        """Bytes of virtual space behind one entry."""
        return 1 << self.shift

    @property
    def pat(self) -> int:
        """The PAT bit of a leaf: where a large one has its size bit, a small one has it (table 4-6 against 4-4)."""
        return 1 << 12 if self.next_table else PAGE_SIZE_BIT

    def is_leaf(self, entry: int) -> bool:
        return not self.next_table or bool(self.leaf and entry & PAGE_SIZE_BIT)

    def physical(self, entry: int) -> int:
        """Where a leaf leads."""
        mask, shift = self.leaf_high
        return entry & self.leaf | (entry & mask) << shift

    def flags(self, entry: int) -> tuple[str, ...]:
        """Names of the bits that are set in a present entry, as asm/pgtable_types.h has them (6.1)."""
        large = bool(self.next_table)
        names = {
            PRESENT: "P",
            WRITABLE: "RW",
            USER: "US",
            WRITE_THROUGH: "PWT",
            CACHE_DISABLE: "PCD",
            ACCESSED: "A",
        }
        if self.is_leaf(entry):
            names |= {DIRTY: "D", PAGE_SIZE_BIT: "PSE" if large else "PAT", GLOBAL: "G"}
        names |= {1 << 9: "SW1", 1 << 10: "SW2", 1 << 11: "SW3"}
        if self.is_leaf(entry) and large:
            names[1 << 12] = "PAT"
        names[NX] = "NX"
        return tuple(name for bit, name in names.items() if entry & bit)

    def leaf_to(self, physical: int) -> int:
        """The address bits of a leaf that leads to ``physical``; those that it cannot hold are lost."""
        mask, shift = self.leaf_high
        return (physical & self.leaf) | (physical >> shift) & mask


@dataclass(frozen=True, slots=True)
class PagingForm:
    """Levels from the root downwards, the format of an entry, and what else the form lays down."""

    name: str
    entry: str
    """:mod:`struct` letter of one entry."""
    root: int
    """Mask of the address bits in CR3."""
    levels: tuple[Level, ...]
    nx: bool = False
    """Whether entries can deny execution (EFER.NXE, where the form has a place for the bit)."""
    pointer_registers: bool = False
    """Whether MOV CR3 reads the first level into registers (4.4.1), which then serve instead of memory."""
    windows: tuple[Range, ...] = (Range(0, 1 << 32),)
    """Virtual addresses that there are, ascending."""

    @property
    def entry_size(self) -> int:
        """Bytes of an entry."""
        return struct.calcsize(self.entry)

    @property
    def leaf_levels(self) -> dict[int, Level]:
        """The levels that can hold leaves, by the size of these in bytes, the largest first."""
        return {level.span: level for level in self.levels if level.leaf}

    def has(self, virtual: int) -> bool:
        """Whether there is such a virtual address: 32 bits, or a canonical one."""
        return any(virtual in window for window in self.windows)


def _bits(high: int, low: int) -> int:
    """The mask of bits ``high:low``, written as the SDM's tables write it; empty if ``high < low``."""
    return (1 << (high + 1)) - (1 << low) if high >= low else 0


def non_pae(*, pse: bool = True, physical_bits: int = 32) -> PagingForm:
    """Two levels of 4-byte entries.

    :param pse: CR4.PSE: without it bit 7 of a directory entry means nothing and there are no 4 MiB pages
    :param physical_bits: MAXPHYADDR; above 32 a 4 MiB page carries its address bits 39:32 in bits 20:13
        (PSE-36)
    """
    high_bits = min(physical_bits, 40) - 32
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
    lower = _lower_levels(address, beyond)
    return PagingForm("PAE", "Q", _bits(31, 5), (pointers, *lower), nx=nx, pointer_registers=True)


def long_mode(*, nx: bool = True, physical_bits: int = 52, gib_pages: bool = True) -> PagingForm:
    """Four levels of 8-byte entries, for 48-bit addresses whose upper bits repeat bit 47 (canonical ones).

    :param nx: EFER.NXE: without it bit 63 is reserved
    :param physical_bits: MAXPHYADDR: address bits from there to 51 are reserved; bits 62:52 are ignored
    :param gib_pages: CPUID.80000001H:EDX.Page1GB: without it bit 7 of a PDPTE is reserved
    """
    address = physical_bits - 1
    beyond = _bits(51, physical_bits) | (0 if nx else NX)
    top = Level(
        name="pgd",
        number=4,
        shift=39,
        bits=9,
        next_table=_bits(address, 12),
        leaf=0,
        reserved=beyond | PAGE_SIZE_BIT,
        leaf_reserved=0,
    )
    pointers = Level(
        name="pud",
        number=3,
        shift=30,
        bits=9,
        next_table=_bits(address, 12),
        leaf=_bits(address, 30) if gib_pages else 0,
        reserved=beyond if gib_pages else beyond | PAGE_SIZE_BIT,
        leaf_reserved=beyond | _bits(29, 13),
    )
    return PagingForm(
        "4-level",
        "Q",
        _bits(address, 12),
        (top, pointers, *_lower_levels(address, beyond)),
        nx=nx,
        windows=(Range(0, 1 << 47), Range((1 << 64) - (1 << 47), 1 << 64)),
    )


def _lower_levels(address: int, beyond: int) -> tuple[Level, Level]:
    """The directory and the table of 8-byte entries: the same in PAE and 4-level paging but for what is reserved."""
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
    return directory, table


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

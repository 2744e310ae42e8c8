"""The two paging forms of i386, as data: a walker that follows these tables needs to know nothing else.

Source: Intel SDM vol. 3A, 4.3 (32-bit paging, PSE-36) and 4.4 (PAE paging).  Levels carry the names that
Linux gives them when it folds those that do not exist (include/asm-generic/pgtable-nopmd.h): without PAE, a
large page's entry lies in the pgd.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PRESENT, WRITABLE, USER, LARGE, NO_EXECUTE = 1 << 0, 1 << 1, 1 << 2, 1 << 7, 1 << 63


def bits(low: int, high: int) -> int:
    """Mask of the bits ``low`` to ``high``, both included."""
    return (1 << high + 1) - (1 << low)


@dataclass(frozen=True)
class Level:
    """One level of tables.  All masks are of an entry's bits."""

    name: str
    number: int
    """1 for the table of 4 KiB pages, counting upwards."""
    shift: int
    """An entry covers ``1 << shift`` bytes."""
    entries: int
    address: int
    """Bits that hold the address of the next table, or of the 4 KiB page."""
    reserved: int
    """Bits that must be zero in a present entry that is not a large page."""
    large: tuple[tuple[int, int], ...] = ()
    """Where a large page's address stands: ``(mask, left shift)`` pieces; none if there are no large pages
    here.
    """
    large_reserved: int = 0
    permissions: bool = True
    """Whether RW, US and NX of this level take part in the effective permission (a PDPTE's do not exist)."""

    @property
    def span(self) -> int:
        """Bytes that one entry covers."""
        return 1 << self.shift

    @property
    def large_address(self) -> int:
        """All bits of a large page's entry that belong to its address."""
        mask = 0
        for piece, _shift in self.large:
            mask |= piece
        return mask


@dataclass(frozen=True)
class Form:
    """A paging form: its levels from the one that CR3 points at down to the 4 KiB pages."""

    name: str
    entry_size: int
    cr3: int
    """Bits of CR3 that hold the address of the first table."""
    levels: tuple[Level, ...]
    large_by_pse: bool = False
    """Whether there are large pages only with CR4.PSE; without it their bit means nothing."""

    @property
    def address_end(self) -> int:
        """The first address behind all that the top table maps."""
        return self.levels[0].entries << self.levels[0].shift

    def level(self, number: int) -> Level:
        """The level that counts as ``number`` from below.

        :raises KeyError: if the form has no such level
        """
        for level in self.levels:
            if level.number == number:
                return level
        raise KeyError(number)


_PAE_ADDRESS = bits(12, 51)
_PAE_HIGH = bits(52, 62)

NON_PAE = Form(
    name="non-PAE",
    entry_size=4,
    cr3=bits(12, 31),
    large_by_pse=True,
    levels=(
        # A 4 MiB page keeps physical bits 31:22 in place and, by PSE-36, bits 39:32 in entry bits 20:13.
        Level(
            name="pgd",
            number=2,
            shift=22,
            entries=1024,
            address=bits(12, 31),
            reserved=0,
            large=((bits(22, 31), 0), (bits(13, 20), 19)),
            large_reserved=1 << 21,
        ),
        Level(name="pte", number=1, shift=12, entries=1024, address=bits(12, 31), reserved=0),
    ),
)

PAE = Form(
    name="PAE",
    entry_size=8,
    cr3=bits(5, 31),  # 32 bytes, which need not be alone in their page
    levels=(
        Level(
            name="pgd",
            number=3,
            shift=30,
            entries=4,
            address=_PAE_ADDRESS,
            # Bit 5 is reserved too, says the manual; QEMU's TCG notes the access there as in any other entry.
            reserved=bits(1, 2) | bits(6, 8) | _PAE_HIGH | NO_EXECUTE,
            permissions=False,
        ),
        Level(
            name="pmd",
            number=2,
            shift=21,
            entries=512,
            address=_PAE_ADDRESS,
            reserved=_PAE_HIGH,
            large=((bits(21, 51), 0),),
            large_reserved=_PAE_HIGH | bits(13, 20),
        ),
        Level(name="pte", number=1, shift=12, entries=512, address=_PAE_ADDRESS, reserved=_PAE_HIGH),
    ),
)


ANY_PHYSICAL_BITS = 64
"""No address bit is reserved."""


def on_processor(
    form: Form, *, pse: bool = True, nx: bool = True, physical_bits: int = ANY_PHYSICAL_BITS
) -> Form:
    """``form`` as one processor follows it: what it lacks is reserved, or means nothing (SDM vol. 3A, 4.1.4, 4.3, 4.4).

    :param pse: CR4.PSE
    :param nx: EFER.NXE; without it, NX is a reserved bit
    :param physical_bits: MAXPHYADDR; address bits at and above it are reserved
    """

    def adapted(level: Level) -> Level:
        return replace(
            level,
            reserved=level.reserved | missing(((level.address, 0),)),
            large_reserved=level.large_reserved | missing(level.large),
            large=level.large if pse or not form.large_by_pse else (),
        )

    def missing(pieces: tuple[tuple[int, int], ...]) -> int:
        mask = 0 if nx else NO_EXECUTE
        for piece, shift in pieces:
            mask |= piece & ~((1 << physical_bits) - 1 >> shift)
        return mask

    return replace(form, levels=tuple(adapted(level) for level in form.levels))

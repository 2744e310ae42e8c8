"""One virtual address: every level of its page tables, and what lies behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

from kvmtools.api.addresses import Address, virtual
from kvmtools.api.page_tables import PageTable, PageTableChoice
from kvmtools.api.pages import Page, flags_of, page_behind
from kvmtools.errors import UsageError
from kvmtools.observe.paging.translate import NOT_MAPPED, Translation, translate
from kvmtools.observe.paging.translate_many import translate_many
from kvmtools.observe.partial import Partial, known
from kvmtools.show.addresses import is_symbol
from kvmtools.show.style import uncoloured
from kvmtools.show.translations import translation_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kvmtools.api.session import Session
    from kvmtools.observe.kernel import Kernel
    from kvmtools.observe.pages.page_flags import FlagLayout
    from kvmtools.observe.space.regions import Regions


__all__ = ["NOT_MAPPED", "TranslatedAddress", "physical_addresses", "translated"]


@dataclass(frozen=True, repr=False)
class TranslatedAddress(Translation, Partial):
    """The way of one address through a page table, top level first; prints as ``kvmtools vtop`` does.

    Either ``fault`` is ``None``, and ``physical`` (of this very byte) and ``size`` (of its page, in bytes) are known,
    or ``fault`` says why there is no page.  ``writable``, ``user`` and ``executable`` are effective, over all levels
    (SDM vol. 3A, 4.6).  Each of ``steps`` has ``name`` (``"pgd"``, ...), ``level``, ``table`` (physical), ``index``,
    ``entry`` (raw; ``None`` outside RAM) and ``flags`` in words.
    """

    argument: Address
    """As it was asked."""
    region: str
    """The kernel's name for the place: ``"vmalloc"``, ``"pkmap slot 3"``, ..."""
    page_table: PageTable
    entry_size: int
    """Bytes of a page table entry: 8 with PAE, 4 without."""
    page: Page | None
    """``None`` if nothing is mapped, or what has no ``struct page``, such as a device's memory; a kernel that does not
    say where it is raises :exc:`~kvmtools.SymbolsError`."""
    hint: str = ""
    """Where to look, if nothing is mapped."""

    @property
    def symbol(self) -> str:
        """The symbol that it was asked by; empty if by a number."""
        return self.argument if isinstance(self.argument, str) and is_symbol(self.argument) else ""

    def __repr__(self) -> str:
        return uncoloured("\n".join(translation_lines(self)))


def translated(
    session: Session, addresses: Sequence[Address], choice: PageTableChoice
) -> list[TranslatedAddress]:
    """Every address's way, all at one moment.

    :raises UsageError: if one is no address, or there is no such page table
    """
    from kvmtools.observe.space.layout import observe_layout
    from kvmtools.observe.space.regions import regions_of

    kernel = session.kernel
    wanted = [(address, virtual(kernel, address)) for address in addresses]
    layout = flags_of(kernel)  # of the kernel, not of the moment: the guest need not wait for it

    def read() -> list[TranslatedAddress]:
        kernel = session.seen_by(choice.cpu)
        table, regions = choice.find(session), regions_of(kernel, observe_layout(kernel))
        return [_translated(kernel, regions, layout, table, choice, *each) for each in wanted]

    return session.held(read)


def physical_addresses(
    session: Session, addresses: Sequence[Address] | NDArray[np.unsignedinteger], choice: PageTableChoice
) -> NDArray[np.uint64]:
    """Where each leads, all at one moment; :data:`NOT_MAPPED` for nowhere.

    :raises UsageError: if one is no address of this kernel's, or there is no such page table
    """
    import numpy as np

    if not isinstance(addresses, np.ndarray):
        addresses = np.array([virtual(session.kernel, each) for each in addresses], np.uint64)
    end = session.kernel.architecture.address_end
    if addresses.ndim != 1 or addresses.dtype.kind not in "iu":
        raise UsageError(
            f"an array of shape {addresses.shape} and {addresses.dtype} holds no column of addresses"
        )
    if len(addresses) and not (addresses.min() >= 0 and addresses.max() < end):
        raise UsageError(f"some of the {len(addresses)} addresses lie outside [0, {end:#x})")
    wanted = addresses.astype(np.uint64)

    def read() -> NDArray[np.uint64]:
        kernel = session.seen_by(choice.cpu)
        return translate_many(kernel.memory, choice.find(session).cr3, wanted, kernel.paging)

    return session.held(read)


def _translated(
    kernel: Kernel,
    regions: Regions,
    layout: FlagLayout,
    table: PageTable,
    choice: PageTableChoice,
    argument: Address,
    address: int,
) -> TranslatedAddress:
    way = translate(kernel.memory, table.cr3, address, kernel.paging)
    elsewhere = way.physical is None and choice.of_kernel and regions.find(address).name == "user"
    return TranslatedAddress(
        **{field.name: getattr(way, field.name) for field in fields(way)},
        argument=argument,
        region=regions.describe(address),
        page_table=table,
        entry_size=kernel.paging.entry_size,
        page=None
        if way.physical is None
        else known(partial(page_behind, kernel, way.physical, layout), "struct page"),
        hint="a process may map it: name one with --pid" if elsewhere else "",
    )

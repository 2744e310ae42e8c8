"""One ``struct page``, by its pfn or by its address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmtools.api.addresses import Address, spelled
from kvmtools.errors import MemoryFault, NotYet, UsageError
from kvmtools.observe.partial import Partial
from kvmtools.records import PAGE_SHIFT
from kvmtools.show.addresses import page_frame
from kvmtools.show.pages import page_lines

if TYPE_CHECKING:
    from kvmtools.api.session import Session
    from kvmtools.observe.kernel import Kernel
    from kvmtools.observe.pages.page_flags import FlagLayout


@dataclass(frozen=True, repr=False)
class Page(Partial):
    """One ``struct page`` in full, members by the kernel's names; prints as ``kvmtools memmap PFN`` does.

    A member that this kernel lacks raises :exc:`~kvmtools.SymbolsError` when it is asked for.
    Source: include/linux/mm_types.h and page-flags.h.
    """

    pfn: int
    page: int
    """Virtual address of the ``struct page``."""
    flags: int
    flag_names: tuple[str, ...]
    """``("PG_reserved", ...)``."""
    zone: str
    node: int | None
    """``None`` in a kernel for one node."""
    section: int | None
    """``None`` with FLATMEM, whose flags hold none."""
    refcount: int
    mapcount: int | None
    """How many page tables of processes map it; ``None`` if the word is a type."""
    page_type: int
    type_names: tuple[str, ...]
    """``("buddy",)``, ``("table",)``, ...; empty if the word is a mapcount."""
    buddy_order: int | None
    """Order of the free block that it heads, if it does; 255 for anything larger."""
    private: int
    mapping: int
    """Without the flags in its low bits."""
    anonymous: bool
    index: int
    lru_next: int
    lru_prev: int
    compound_head: int | None
    """pfn of the head of the compound page that it is a tail of; -1 if it leads nowhere."""

    @property
    def physical(self) -> int:
        """Guest-physical address of the page."""
        return self.pfn << PAGE_SHIFT

    def __repr__(self) -> str:
        return "\n".join(page_lines(self))


def page_of(kernel: Kernel, which: Address, layout: FlagLayout) -> Page:
    """The page that a number or a word names; reads one ``struct page``.

    :raises UsageError: if it names none
    """
    from kvmtools.observe.pages.memmap import page_at, page_pfn
    from kvmtools.observe.paging.translate import is_ram

    text = spelled(which)
    try:
        pfn = page_frame(
            text,
            kernel.page_offset,
            lambda address: page_pfn(kernel, address),
            kernel.architecture.word_bits,
        )
        return Page(**page_at(kernel, pfn, layout))
    except IndexError as error:
        hint = ""
        if text.startswith("0x") and is_ram(kernel.memory, int(text, 16)):
            hint = f"the page at that physical address is phys:{text}"
        raise UsageError(f"'{text}' names no page: {error.args[0]}", hint=hint) from error


def flags_of(kernel: Kernel) -> FlagLayout:
    """The flags of this kernel; where they keep zone and section, if it has booted far enough to say what it is."""
    from kvmtools.compare.flag_fields import layout_with_fields
    from kvmtools.observe.boot.configuration import observe_configuration
    from kvmtools.observe.pages.page_flags import flag_layout

    return layout_with_fields(flag_layout(kernel.vmlinux), observe_configuration(kernel))


def page_behind(kernel: Kernel, physical: int, layout: FlagLayout) -> Page | None:
    """The page of a physical address; ``None`` for memory that has none, such as a device's, or none yet.

    :raises SymbolsError: if this kernel does not say where pages are
    """
    from kvmtools.observe.pages.memmap import page_at

    try:
        return Page(**page_at(kernel, physical >> PAGE_SHIFT, layout))
    except (IndexError, MemoryFault, NotYet):
        return None


def pages_of(session: Session, words: Sequence[Address], refuse: Callable[[UsageError], None]) -> list[Page]:
    """The pages that are named, all at one moment; ``refuse`` is told of each that names none."""
    refused: list[UsageError] = []
    layout = flags_of(session.kernel)  # of the kernel, not of the moment: the guest need not wait for it

    def read() -> list[Page]:
        refused.clear()
        found = []
        for word in words:
            try:
                found.append(page_of(session.kernel, word, layout))
            except UsageError as error:
                refused.append(error)
        return found

    found = session.held(read)
    for error in refused:
        refuse(error)
    return found

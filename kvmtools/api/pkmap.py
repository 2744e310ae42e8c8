"""The window through which ``kmap()`` shows highmem pages: its slots, and who is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kvmtools.compare.flag_fields import with_fields
from kvmtools.errors import Absent, Unobserved, UsageError
from kvmtools.model.prediction import Prediction
from kvmtools.observe.paging.forms import PRESENT, Form
from kvmtools.observe.partial import Partial, known
from kvmtools.records import PAGE_SHIFT
from kvmtools.show.pkmap import pkmap_text
from kvmtools.show.style import uncoloured

if TYPE_CHECKING:
    from kvmtools.model.pkmap.kmap_local import KmapFixmap
    from kvmtools.observe.kmap.pkmap import Pkmap
    from kvmtools.observe.observed import Observed
    from kvmtools.observe.pages.memmap import MemMap


@dataclass(frozen=True, slots=True)
class UsedSlot(Partial):
    """A slot of pkmap that is counted, or mapped."""

    slot: int
    virtual: int | None
    """``None`` if the page tables do not say where pkmap lies."""
    count: int
    """``pkmap_count``: the number of users plus one; 1 is mapped, and used by nobody."""
    pte: int
    pfn: int | None
    """``None`` if the PTE is not present."""
    page: int | None
    """Virtual address of the ``struct page``; ``None`` if the pfn has none."""
    zone: str | None

    @property
    def users(self) -> int:
        """Who called ``kmap()`` and not yet ``kunmap()``."""
        return max(0, self.count - 1)


@dataclass(frozen=True, slots=True)
class LocalSlot(Partial):
    """A slot of the fixmap that ``kmap_local_page()`` fills now."""

    cpu: int | None
    """This and the next two by the model's word, for the kernel notes the entries alone; ``None`` if it has none."""
    index: int | None
    """Which of the CPU's slots it is."""
    virtual: int | None
    pte: int
    pfn: int


@dataclass(frozen=True, eq=False, repr=False)
class PkmapSlots(Partial):
    """Every slot of pkmap, and those that are not empty one by one; prints as ``kvmtools pkmap`` does.

    Source: mm/highmem.c.
    """

    area: Pkmap
    """The window as columns of shape ``(LAST_PKMAP,)``: ``counts`` (``pkmap_count``) and ``ptes`` (raw); ``base``,
    ``cursor`` (``last_pkmap_nr``), ``page_table_physical``, ``waiters``, and ``buckets`` of ``page_address_htable``."""
    used: tuple[UsedSlot, ...]
    local: tuple[LocalSlot, ...]
    """What ``kmap_local_page()`` maps, CPU by CPU."""
    entry_size: int
    """Bytes of a PTE: 8 with PAE, 4 without."""

    def __len__(self) -> int:
        return len(self.area.counts)

    @property
    def present(self) -> list[bool]:
        """Which slots have a present PTE."""
        return [bool(pte & PRESENT) for pte in self.area.ptes.tolist()]

    def __repr__(self) -> str:
        return uncoloured(pkmap_text(self))


def pkmap_slots(seen: Observed) -> PkmapSlots | None:
    """The slots as they were observed; ``None`` if the kernel has no HIGHMEM."""
    if seen.pkmap is None:
        return None
    form = seen.kernel.paging
    memmap = known(lambda: with_fields(seen.memmap, seen.configuration), "mem_map")
    used = tuple(_used(seen.pkmap, memmap, form))
    local = known(lambda: tuple(_local(seen, form)), "kmap_local")
    return PkmapSlots(seen.pkmap, used, local, form.entry_size)


def _used(pkmap: Pkmap, memmap: MemMap | Unobserved, form: Form) -> Iterator[UsedSlot]:
    """Slots that are not empty, in order."""
    for slot, (count, pte) in enumerate(zip(pkmap.counts.tolist(), pkmap.ptes.tolist(), strict=True)):
        if not count and not pte:
            continue
        pfn = _pfn(pte, form) if pte & PRESENT else None
        page, zone = _page(memmap, pfn)
        yield UsedSlot(
            slot=slot,
            virtual=known(partial(_address, pkmap, slot), "pkmap"),
            count=count,
            pte=pte,
            pfn=pfn,
            page=page,
            zone=zone,
        )


def _address(pkmap: Pkmap, slot: int) -> int | None:
    return None if pkmap.base is None else pkmap.base + (slot << PAGE_SHIFT)


def _page(memmap: MemMap | Unobserved, pfn: int | None) -> tuple[Any, Any]:
    """Address of the ``struct page`` of a pfn, and its zone, for a :class:`Partial`; ``None`` if it has none: a hole of
    SPARSEMEM, or a pfn of an overwritten PTE.
    """
    if pfn is None:
        return None, None
    if isinstance(memmap, Unobserved):
        return memmap, memmap
    try:
        page = memmap.pfn_to_page(pfn)
    except IndexError:
        return None, None
    return page, known(partial(memmap.zone_name, pfn), "struct page")


def _local(seen: Observed, form: Form) -> Iterator[LocalSlot]:
    fixmap = _fixmap(seen)
    for slot, pte in enumerate(seen.kmap_local.ptes.tolist()):
        if pte & PRESENT:
            cpu, index, virtual = _place(fixmap, slot)
            yield LocalSlot(cpu, index, virtual, pte, _pfn(pte, form))


def _place(fixmap: KmapFixmap | Absent | None, slot: int) -> tuple[Any, Any, Any]:
    """The slot's CPU, its index there and its address, for a :class:`Partial`."""
    if fixmap is None or isinstance(fixmap, Absent):
        return fixmap, fixmap, fixmap
    return *fixmap.owner_of(slot), fixmap.address_of(slot)


def _fixmap(seen: Observed) -> KmapFixmap | Absent | None:
    """Where the slots lie by the model's word; or what this kernel lacks for that, or nothing if it has no word."""
    try:
        return Prediction(seen.configuration).kmap_local
    except Absent as reason:
        return reason
    except (Unobserved, UsageError):
        return None


def _pfn(pte: int, form: Form) -> int:
    return (pte & form.level(1).address) >> PAGE_SHIFT

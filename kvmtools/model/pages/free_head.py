"""What the first page of a free block must look like, besides its mark.

Source: mm/page_alloc.c: __free_one_page, prep_new_page (2.4.16, 2.6.18), check_new_page, expand (6.1, 7.2);
PAGE_FLAGS_CHECK_AT_PREP, PG_reported: include/linux/page-flags.h (6.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmtools.model import eras
from kvmtools.model.eras.dialects import BuddyMark
from kvmtools.records import Configuration

_MAY_STAY = ("hwpoison", "reported")
"""A page that failed is kept from use, not from the lists; of a reported one the host knows that it is free."""


@dataclass(frozen=True)
class FreeHead:
    """Of a block of any order.

    :param refcount: ``_refcount``
    :param clear: flags that are not set, as the kernel names them (``PG_locked``); ``None``: none is set but ``spared``
    :param spared: flags that may be set
    :param alignment: by order, what the pfn is a multiple of; a free block has no other order
    """

    refcount: int
    clear: frozenset[str] | None
    spared: frozenset[str]
    alignment: tuple[int, ...]


def free_head(configuration: Configuration) -> FreeHead:
    """The head of a free block of a kernel of this configuration: what is put on a list can be handed out."""
    era = eras.shown(configuration.marks)
    mark = ("buddy",) if era.buddy_mark is BuddyMark.PG_BUDDY else ()
    spared = frozenset(f"PG_{name}" for name in (*_MAY_STAY, *mark))
    checked = era.checked_at_prep
    return FreeHead(
        refcount=0,
        clear=None if checked is None else frozenset(f"PG_{name}" for name in checked) - spared,
        spared=spared,
        alignment=tuple(1 << order for order in range(configuration.max_order)),
    )

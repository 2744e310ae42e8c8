"""What a CPU's lists of free blocks are for: the n-th holds blocks of one order.

Source: MIGRATE_PCPTYPES, PAGE_ALLOC_COSTLY_ORDER, NR_PCP_LISTS: include/linux/mmzone.h, 5.10 to 7.2;
free_unref_page_commit, 5.10, order_to_pindex and pindex_to_order, 6.1 to 7.2: mm/page_alloc.c; pageblock_order:
include/linux/pageblock-flags.h, 6.1; HPAGE_PMD_ORDER: include/linux/huge_mm.h, 6.12.
"""

from __future__ import annotations

from kvmtools.model import eras
from kvmtools.model.paging.walk import form_of
from kvmtools.records import PAGE_SIZE, Configuration

MIGRATE_PCPTYPES = 3
PAGE_ALLOC_COSTLY_ORDER = 3


def list_orders(configuration: Configuration, lists: int) -> tuple[int, ...]:
    """The order of the blocks on each of a pageset's ``lists``.

    Order by order there is a list for each migratetype; 5.10 has those of single pages alone.  Behind them, with
    transparent huge pages, are one or two for blocks of a large order.
    """
    small = MIGRATE_PCPTYPES * (PAGE_ALLOC_COSTLY_ORDER + 1)
    large = _large_order(configuration)
    return tuple(at // MIGRATE_PCPTYPES if at < small else large for at in range(lists))


def _large_order(configuration: Configuration) -> int:
    """That of a huge page since 6.12, before of a pageblock, which without hugetlbfs is as large as a block can be."""
    largest = configuration.max_order - 1
    if not configuration.hugetlb and not eras.shown(configuration.marks).pcp_huge_pages:
        return largest
    pages = form_of(configuration).levels[-2].span // PAGE_SIZE
    return min(pages.bit_length() - 1, largest)

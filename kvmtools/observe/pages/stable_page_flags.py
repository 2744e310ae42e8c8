"""``/proc/kpageflags`` and ``/proc/kpagecount``, computed from the columns of ``mem_map``.

What the kernel tells its users about a page is not ``page->flags`` but a stable set of bits of its own, some
copied, some worked out (``stable_page_flags``, fs/proc/page.c, 6.1).  Having the same here makes every page of
a guest comparable with what the guest itself says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.architecture import INT
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.pages.memmap import MAPPING_ANON, MAPPING_FLAGS, MemMap

# include/uapi/linux/kernel-page-flags.h and include/linux/kernel-page-flags.h, 6.1.
KPF = {
    "LOCKED": 0,
    "ERROR": 1,
    "REFERENCED": 2,
    "UPTODATE": 3,
    "DIRTY": 4,
    "LRU": 5,
    "ACTIVE": 6,
    "SLAB": 7,
    "WRITEBACK": 8,
    "RECLAIM": 9,
    "BUDDY": 10,
    "MMAP": 11,
    "ANON": 12,
    "SWAPCACHE": 13,
    "SWAPBACKED": 14,
    "COMPOUND_HEAD": 15,
    "COMPOUND_TAIL": 16,
    "HUGE": 17,
    "UNEVICTABLE": 18,
    "HWPOISON": 19,
    "NOPAGE": 20,
    "KSM": 21,
    "THP": 22,
    "OFFLINE": 23,
    "ZERO_PAGE": 24,
    "IDLE": 25,
    "PGTABLE": 26,
    "RESERVED": 32,
    "MLOCKED": 33,
    "MAPPEDTODISK": 34,
    "PRIVATE": 35,
    "PRIVATE_2": 36,
    "OWNER_PRIVATE": 37,
    "ARCH": 38,
    "UNCACHED": 39,
    "SOFTDIRTY": 40,
    "ARCH_2": 41,
}
"""Bit numbers, without the prefix ``KPF_``."""

# Bits that are those of page->flags as they stand, and what the kernel's flag is called now or was called.
_COPIED = {
    "LOCKED": ("PG_locked",),
    "ERROR": ("PG_error",),
    "REFERENCED": ("PG_referenced",),
    "UPTODATE": ("PG_uptodate",),
    "DIRTY": ("PG_dirty",),
    "LRU": ("PG_lru",),
    "ACTIVE": ("PG_active",),
    "WRITEBACK": ("PG_writeback",),
    "RECLAIM": ("PG_reclaim",),
    "SWAPBACKED": ("PG_swapbacked",),
    "UNEVICTABLE": ("PG_unevictable",),
    "HWPOISON": ("PG_hwpoison",),
    "RESERVED": ("PG_reserved",),
    "MLOCKED": ("PG_mlocked",),
    "MAPPEDTODISK": ("PG_mappedtodisk", "PG_owner_2"),
    "PRIVATE": ("PG_private",),
    "PRIVATE_2": ("PG_private_2",),
    "OWNER_PRIVATE": ("PG_owner_priv_1",),
    "ARCH": ("PG_arch_1",),
    "UNCACHED": ("PG_uncached",),
}
# struct page of the first tail page (6.1), struct folio (since 6.2; 7.2 has it in the second tail page): maps of a
# compound page as a whole.
_ENTIRE_MAPCOUNT = (("struct page", "compound_mapcount"), ("struct folio", "_entire_mapcount"))

Flags = NDArray[np.uint64]
Pages = NDArray[np.bool_]


def kpageflags(memmap: MemMap, kernel: Kernel) -> Flags:
    """What /proc/kpageflags holds for every pfn with a row; shape ``(length,)``.

    ``KPF_IDLE`` is left out: where 32-bit kernels track idle pages, they do it outside ``struct page``.
    """
    compound = _Compound(memmap, kernel)
    slab = _slab(memmap)
    found = np.zeros(memmap.length, np.uint64)

    def add(name: str, pages: Pages) -> None:
        found[pages] |= np.uint64(1 << KPF[name])

    snapshot = kernel.vmlinux.has_type("struct page_snapshot")
    own = np.arange(memmap.length)
    # A page of a compound page is told to have the flags of the whole since 6.10, and since 6.17 its type, too.
    flag_of = compound.head if _of_folios(memmap) or snapshot else own
    type_of = compound.head if snapshot else own
    for name, flags in _COPIED.items():
        add(name, memmap.has_flag(*flags)[flag_of])
    head_mapping = memmap.mapping[compound.head] & MAPPING_FLAGS
    anonymous = (head_mapping & MAPPING_ANON) != 0
    add("SLAB", slab[compound.head])
    add("MMAP", compound.mapped & ~slab[compound.head])
    add("ANON", anonymous)
    if kernel.vmlinux.has_symbol("ksm_rmap_items") or kernel.vmlinux.has_symbol("ksm_thread"):
        # Between the two, any anonymous page passes for merged: one of the two bits is enough there.
        add("KSM", anonymous if _of_folios(memmap) and not snapshot else head_mapping == MAPPING_FLAGS)
    add("COMPOUND_HEAD", memmap.has_flag("PG_head"))
    add("COMPOUND_TAIL", memmap.tail)
    add("BUDDY", memmap.buddy | (memmap.in_buddy_block & (memmap.refcount[compound.head] == 0)))
    add("OFFLINE", memmap.types.of(memmap.page_type, "offline")[type_of])
    add("PGTABLE", memmap.types.of(memmap.page_type, "table")[type_of])
    if kernel.vmlinux.has_symbol("swapper_spaces"):
        head_flags = memmap.has_flag("PG_swapbacked") & memmap.has_flag("PG_swapcache")
        add("SWAPCACHE", head_flags[compound.head])
    _add_huge(found, memmap, kernel, compound, anonymous)
    found[~memmap.valid] = 1 << KPF["NOPAGE"]
    return found


def kpagecount(memmap: MemMap, kernel: Kernel) -> NDArray[np.int64]:
    """What /proc/kpagecount holds: in how many places processes map the page; 0 for slab, typed and no pages."""
    compound = _Compound(memmap, kernel)
    counts = memmap.mapcount.astype(np.int64) + 1
    anonymous = (memmap.mapping[compound.head] & MAPPING_ANON) != 0
    # Up to 6.1 each page of a huge page of a file counts the maps of the whole as its own.
    whole_counts_apart = anonymous if "PG_double_map" in memmap.layout.aliases else np.ones_like(anonymous)
    add = compound.member & whole_counts_apart
    counts[add] += compound.entire_mapcount[add]
    doubled = compound.member & anonymous & compound.double_map
    counts[doubled] -= 1
    counts[_slab(memmap)[compound.head] | memmap.types.any(memmap.page_type) | ~memmap.valid] = 0
    return counts


def _slab(memmap: MemMap) -> Pages:
    """``PageSlab``: a flag up to 6.9, a page type since."""
    return memmap.has_flag("PG_slab") | memmap.types.of(memmap.page_type, "slab")


def _of_folios(memmap: MemMap) -> bool:
    """``stable_page_flags`` was rewritten for folios when PG_slab ceased to be a flag (6.10)."""
    return not memmap.layout.bit("PG_slab")


class _Compound:
    """What compound pages keep in their first tail page, spread over all their pages."""

    def __init__(self, memmap: MemMap, kernel: Kernel) -> None:
        rows = np.arange(memmap.length)
        self.head = np.where(memmap.head >= 0, memmap.head, rows)
        """pfn of the head; of a page in no compound page its own."""
        self.member = memmap.tail | memmap.has_flag("PG_head")
        heads = np.flatnonzero(memmap.has_flag("PG_head"))
        heads = heads[heads + 1 < memmap.length]
        entire = np.zeros(memmap.length, np.int64)
        place = _entire_mapcount_place(memmap, kernel)
        if place is not None:
            tail, offset = place
            long = heads[memmap.head[np.minimum(heads + tail, memmap.length - 1)] == heads]
            entire[long] = memmap.part_at(offset, INT)[long + tail].astype(np.int64) + 1
        self.entire_mapcount = entire[self.head]
        """How often the compound page is mapped as a whole."""
        double = np.zeros(memmap.length, np.bool_)
        double[heads] = memmap.has_flag("PG_double_map")[heads + 1]
        thp = _has_huge_pages(kernel)
        self.double_map = double[self.head] & thp
        single = memmap.mapcount >= 0
        any_mapped = entire > 0
        # A page of the compound page that is mapped by itself makes the whole count as mapped.
        own = np.flatnonzero(single & self.member & (self.head != rows))
        any_mapped[self.head[own]] = True
        any_mapped |= single
        self.mapped = any_mapped[self.head]
        """``page_mapped``."""


def _entire_mapcount_place(memmap: MemMap, kernel: Kernel) -> tuple[int, int] | None:
    """In which tail page it is, and at which offset there."""
    for type_name, member in _ENTIRE_MAPCOUNT:
        if kernel.vmlinux.has_member(type_name, member):
            tail, offset = divmod(kernel.vmlinux.offset(type_name, member), memmap.page_size)
            return max(1, tail), offset
    return None


def _has_huge_pages(kernel: Kernel) -> bool:
    """CONFIG_TRANSPARENT_HUGEPAGE."""
    return kernel.vmlinux.has_symbol("transparent_hugepage_flags")


def _add_huge(found: Flags, memmap: MemMap, kernel: Kernel, compound: _Compound, anonymous: Pages) -> None:
    """THP, HUGE and ZERO_PAGE, which exclude each other in part."""
    huge = np.zeros(memmap.length, np.bool_)
    if kernel.vmlinux.has_constant("HUGETLB_PAGE_DTOR") and kernel.vmlinux.has_member(
        "struct page", "compound_dtor"
    ):
        offset = kernel.vmlinux.offset("struct page", "compound_dtor")
        destructor = memmap.part_at(offset, np.dtype(np.uint8))
        first_tail = np.minimum(compound.head + 1, memmap.length - 1)
        huge = compound.member & (destructor[first_tail] == kernel.vmlinux.constant("HUGETLB_PAGE_DTOR"))
    huge |= memmap.types.of(memmap.page_type, "hugetlb")[compound.head]
    found[huge] |= np.uint64(1 << KPF["HUGE"])
    transparent = compound.member & ~huge if _has_huge_pages(kernel) else np.zeros_like(huge)
    if _of_folios(memmap):
        second = np.minimum(compound.head + 1, memmap.length - 1)
        listed = memmap.has_flag("PG_large_rmappable")[second]
    else:
        listed = memmap.has_flag("PG_lru")[compound.head] | anonymous
    found[transparent & listed] |= np.uint64(1 << KPF["THP"])
    for pfn, both in _zero_pages(memmap, kernel):
        zero = (compound.head == pfn) & ~huge
        if both:
            zero &= transparent & ~listed
            found[zero] |= np.uint64(1 << KPF["THP"])
        else:
            zero &= ~transparent
        found[zero] |= np.uint64(1 << KPF["ZERO_PAGE"])


def _zero_pages(memmap: MemMap, kernel: Kernel) -> list[tuple[int, bool]]:
    """pfns of the zero page and of the huge zero page (``True``), if there is one."""
    # 7.2 has a function of the old name.
    single = "zero_pfn" if kernel.vmlinux.has_type("typeof(zero_pfn)") else "zero_page_pfn"
    pages = [(kernel.variable(single), False)]
    if _has_huge_pages(kernel):
        # A folio since 6.10; its first member is its first struct page.
        huge = "huge_zero_page" if kernel.vmlinux.has_symbol("huge_zero_page") else "huge_zero_folio"
        pfn = int(memmap.page_to_pfn(kernel.variable(huge)))
        pages += [(pfn, True)] if pfn >= 0 else []
    return pages

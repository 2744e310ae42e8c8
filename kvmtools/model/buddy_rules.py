"""What the eras' page allocators do differently, besides noting that a block is free.

Source: include/linux/list.h (2.4.18), include/linux/poison.h; mm/page_alloc.c: expand, __free_pages (2.4.18, 2.6.18,
2.6.24, 5.10, 6.1), free_area_init_core (2.4.18), memmap_init_zone (2.6.18); mm/bootmem.c free_all_bootmem_core
(2.4.18, 2.6.18).  The checks: BUG and BUG_ON as they stand in those files; 2.6.24 made most of them VM_BUG_ON, and
since 6.3 (mm/page_alloc.c, check_pages_enabled) bad pages are looked for on request only.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmtools.model.eras import Era


class Rules(NamedTuple):
    """What else changed together with the way free blocks are noted."""

    poison: tuple[int, int] | None
    """What ``list_del`` leaves behind."""
    upper_half: bool
    """A block that is split gives its upper half to the caller and keeps the lower one, not the reverse."""
    boot_orders: tuple[int, ...] | None
    """Blocks in which the boot allocator frees lowmem, largest first; ``None``: any order."""
    merge_likely: bool
    """A block whose parent could merge as soon as its buddy is free goes to the end of the list."""
    frees_tails: bool
    """``__free_pages`` of a block that someone else still holds by its first page frees the other pages."""
    ignores_reserved: bool
    """``__free_pages`` of a reserved page does nothing."""
    refcount_at_boot: int
    """Of a page that was never free."""


_RULES_5_10 = Rules((0x100, 0x122), False, None, True, True, False, 1)
_RULES = {
    "bitmap": Rules(None, True, (0,), False, False, True, 0),
    "PG_buddy": Rules((0x00100100, 0x00200200), False, (5, 0), False, False, False, 1),
    "page_type bit": _RULES_5_10,
    "page_type byte": _RULES_5_10,
}
"""By :attr:`Era.buddy_mark`."""

_EVERY_CHECK = frozenset({"held", "idle", "aligned", "in zone", "buddy idle", "new"})
_BAD_PAGE = frozenset({"idle", "new"})
_ALWAYS_CHECKED = {
    "2.4": frozenset({"idle", "aligned", "in zone"}),
    "2.6.18": frozenset({"held", "idle", "aligned", "buddy idle", "new"}),
    "2.6.24": _BAD_PAGE,
    "2.6.32": _BAD_PAGE,
    "5.10": _BAD_PAGE,
    "6.1": _BAD_PAGE,
    "6.12": frozenset[str](),
    "7.2": frozenset[str](),
}


def rules(era: Era) -> Rules:
    """The row of ``era``."""
    return _RULES[era.buddy_mark]


def checked(era: Era, *, debug_vm: bool) -> frozenset[str]:
    """The checks that a kernel makes.

    ============== ====================================================================
    ``held``       ``put_page_testzero``: somebody holds the page that is put
    ``idle``       ``free_pages_check``: no reference, mapping or wrong flag is left
    ``aligned``    the block begins at a multiple of its size
    ``in zone``    ``bad_range``: the page lies in the zone that it names
    ``buddy idle`` nobody holds a page that is marked free
    ``new``        ``check_new_page``: what is handed out has no reference, mapping or wrong flag
    ============== ====================================================================

    :param debug_vm: CONFIG_DEBUG_VM, which 2.4 does not know: all of them
    """
    if debug_vm and era.name != "2.4":
        return _EVERY_CHECK
    return _ALWAYS_CHECKED[era.name]

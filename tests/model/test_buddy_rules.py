"""Which checks a kernel makes, cell by cell, and that the allocator makes those and no others."""

from __future__ import annotations

import pytest
from buddies import FLAGS, TinyMap, booted, small

from kvmtools.model import eras
from kvmtools.model.buddy import Buddy
from kvmtools.model.bugs import KernelBug
from kvmtools.records import Range, ZoneSpan

EVERYTHING = {"held", "idle", "aligned", "in zone", "buddy idle", "new"}
ALWAYS = {
    # BUG() in __free_pages_ok(): a list of conditions, page_idx & ~mask, BAD_RANGE
    "2.4": {"idle", "aligned", "in zone"},
    # BUG_ON in put_page_testzero(), __free_one_page(), page_is_buddy(); bad_page(); bad_range() is for DEBUG_VM
    "2.6.18": {"held", "idle", "aligned", "buddy idle", "new"},
    # the BUG_ONs have become VM_BUG_ONs
    "2.6.24": {"idle", "new"},
    "2.6.32": {"idle", "new"},
    "5.10": {"idle", "new"},
    "6.1": {"idle", "new"},
    # check_pages_enabled, since 6.3
    "6.12": set[str](),
    "7.2": set[str](),
}


@pytest.mark.parametrize("name", eras.NAMES)
def test_checks(name: str) -> None:
    assert set(eras.named(name).buddy_checks) == ALWAYS[name]


def _buddy(name: str) -> Buddy:
    return booted(TinyMap(range(4)), (Range(0, 4),), small(name, 3))


@pytest.mark.parametrize("name", eras.NAMES)
def test_idle(name: str) -> None:
    """A page that is freed with PG_locked set."""
    buddy = _buddy(name)
    pfn = buddy.alloc()
    assert pfn is not None
    page = buddy.mem_map.pfn_to_page(pfn)
    buddy.pages.set_flags(page, buddy.pages.flags(page) | 1)
    if "idle" in ALWAYS[name]:
        with pytest.raises(KernelBug, match=r"free_pages_check\(page\).*wrong flags locked"):
            buddy.free(pfn)
    else:
        buddy.free(pfn)
        assert buddy.free_pages == 4


@pytest.mark.parametrize("name", eras.NAMES)
def test_new(name: str) -> None:
    """A free page that somebody has locked."""
    buddy = _buddy(name)
    for pfn in range(4):
        page = buddy.mem_map.pfn_to_page(pfn)
        buddy.pages.set_flags(page, buddy.pages.flags(page) | 1)
    if "new" in ALWAYS[name]:
        with pytest.raises(KernelBug, match=r"check_new_page\(page\).*wrong flags locked"):
            buddy.alloc()
    else:
        assert buddy.alloc() is not None


def test_an_ordinary_build() -> None:
    """Neither CONFIG_HOLES_IN_ZONE nor CONFIG_DEBUG_VM, unless it is said."""
    buddy = Buddy(TinyMap(range(4)), (ZoneSpan("NORMAL", 0, 4),), era=small("6.1", 3), flags=FLAGS)
    buddy.memmap_init()
    buddy.free_all((Range(0, 4),))
    pfn = buddy.alloc()
    assert pfn == 0
    buddy.free(pfn)
    buddy.free(pfn)  # twice, which DEBUG_VM would notice
    assert buddy.checks == (0, 0, 0, 0)


@pytest.mark.parametrize("name", eras.NAMES)
def test_rules(name: str) -> None:
    """What is the same in all 2.6, and in all since 5.10."""
    era = eras.named(name)
    assert era.split_keeps_lower_half is era.keeps_reserved is (name == "2.4")
    assert era.buddy_merge_likely is era.frees_tails is (not name.startswith("2."))
    assert era.boot_orders == {"2.4": (0,), "2.6": (5, 0)}.get(name[:3])
    # poison.h; 2.4 had none
    assert era.list_poison == {"2.4": None, "2.6": (0x00100100, 0x00200200)}.get(name[:3], (0x100, 0x122))


def test_the_links_of_a_block_that_was_taken() -> None:
    """list_del() leaves its poison in both."""
    buddy = _buddy("6.1")
    pfn = buddy.alloc(2)
    assert pfn == 0
    page, at = buddy.mem_map.pfn_to_page(pfn), dict(buddy.era.page_members)["next"]
    assert (buddy.mem_map.read(page, at), buddy.mem_map.read(page, at + 4)) == (0x100, 0x122)

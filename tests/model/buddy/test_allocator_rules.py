"""Which checks a kernel makes, cell by cell, and that the allocator makes those and no others."""

from __future__ import annotations

import pytest
from buddies import FLAGS, TinyMap, booted, small

from kvmtools.model import eras
from kvmtools.model.buddy.allocator import Buddy
from kvmtools.model.bugs import KernelBug
from kvmtools.model.pages.struct_page import flag, flag_names
from kvmtools.records import Range, ZoneSpan

ALWAYS = {
    # BUG() in __free_pages_ok() and rmqueue() of 2.4.16: lists of conditions, page_idx & ~mask, BAD_RANGE
    "2.4": {"idle", "aligned", "in zone", "new"},
    # BUG_ON in put_page_testzero(), __free_one_page(), page_is_buddy(); bad_page(); bad_range() is for DEBUG_VM
    "2.6.18": {"held", "idle", "aligned", "buddy idle", "new"},
    # the BUG_ONs have become VM_BUG_ONs, that of page_is_buddy() last
    "2.6.24": {"idle", "buddy idle", "new"},
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


def _buddy(name: str, *, debug_vm: bool = False) -> Buddy:
    return booted(TinyMap(range(4)), (Range(0, 4),), small(name, 3), debug_vm=debug_vm)


def _set(buddy: Buddy, pfn: int, name: str) -> None:
    page = buddy.mem_map.pfn_to_page(pfn)
    buddy.pages.set_flags(page, buddy.pages.flags(page) | flag(buddy.era, name))


DEBUG = pytest.mark.parametrize("debug_vm", [False, True])
EVERY_ERA = pytest.mark.parametrize("name", eras.NAMES)


def _checks(name: str, check: str, debug_vm: bool) -> bool:
    """CONFIG_DEBUG_VM makes all checks; 2.4 has no such thing."""
    return check in ALWAYS[name] or (debug_vm and name != "2.4")


@DEBUG
@EVERY_ERA
def test_idle(name: str, debug_vm: bool) -> None:
    """A page that is freed with PG_locked set."""
    buddy = _buddy(name, debug_vm=debug_vm)
    pfn = buddy.alloc()
    assert pfn is not None
    _set(buddy, pfn, "locked")
    if _checks(name, "idle", debug_vm):
        with pytest.raises(KernelBug, match=r"free_pages_check\(page\).*wrong flags locked"):
            buddy.free(pfn)
    else:
        buddy.free(pfn)
        assert buddy.free_pages == 4


@DEBUG
@EVERY_ERA
def test_new(name: str, debug_vm: bool) -> None:
    """A free page that is active; who made it so does not say."""
    buddy = _buddy(name, debug_vm=debug_vm)
    for pfn in range(4):
        _set(buddy, pfn, "active")
    if _checks(name, "new", debug_vm):
        with pytest.raises(KernelBug, match=r"check_new_page\(page\).*wrong flags active"):
            buddy.alloc()
    else:
        assert buddy.alloc() is not None


@DEBUG
@EVERY_ERA
def test_held(name: str, debug_vm: bool) -> None:
    """put_page_testzero() of a page that nobody holds: a page is freed twice."""
    buddy = _buddy(name, debug_vm=debug_vm)
    pfn = buddy.alloc()
    assert pfn is not None
    buddy.free(pfn)
    if _checks(name, "held", debug_vm):
        with pytest.raises(KernelBug, match=r"page_count\(page\) == 0"):
            buddy.free(pfn)
    else:
        buddy.free(pfn)
        assert buddy.free_pages == 4


@pytest.mark.parametrize(
    ("name", "flag_name", "said"),
    [
        ("2.4", "lru", True),
        ("2.4", "locked", False),
        ("2.4", "dirty", False),
        *((name, "dirty", True) for name in ("2.6.18", "2.6.24", "2.6.32", "5.10", "6.1")),
        *((name, "referenced", False) for name in ("2.6.18", "2.6.24")),
        *((name, "referenced", True) for name in ("2.6.32", "5.10", "6.1")),
        ("2.6.18", "reclaim", True),
        ("2.6.24", "reclaim", False),
        ("2.6.32", "reclaim", True),
    ],
)
def test_more_is_asked_of_a_page_that_is_handed_out(name: str, flag_name: str, said: bool) -> None:
    """PAGE_FLAGS_CHECK_AT_PREP, and what came before it."""
    buddy = _buddy(name)
    for pfn in range(4):
        _set(buddy, pfn, flag_name)
    if said:
        with pytest.raises(KernelBug, match=rf"check_new_page\(page\).*wrong flags {flag_name}"):
            buddy.alloc()
    else:
        assert buddy.alloc() is not None


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("2.4", ("error", "uptodate")),
        ("2.6.18", ("error", "referenced", "uptodate")),
        ("2.6.24", ("error", "referenced", "uptodate")),
        *((name, ()) for name in ("2.6.32", "5.10", "6.1")),
    ],
)
def test_flags_that_a_free_clears(name: str, kept: tuple[str, ...]) -> None:
    buddy = _buddy(name)
    assert buddy.alloc(2) == 0
    for set_before in ("error", "referenced", "uptodate", "dirty"):
        _set(buddy, 0, set_before)
        _set(buddy, 3, set_before)
    buddy.free(0, 2)
    head, tail = (buddy.pages.flags(buddy.mem_map.pfn_to_page(pfn)) for pfn in (0, 3))
    known = set(flag_names(buddy.era, head)) - {"buddy"}
    assert known == set(kept)
    # 2.4 looks at the first page of a block alone.
    assert set(flag_names(buddy.era, tail)) == (
        {"error", "referenced", "uptodate", "dirty"} if name == "2.4" else set(kept)
    )


@pytest.mark.parametrize(
    ("name", "idle", "new"),
    [
        ("2.4", False, False),
        ("2.6.18", True, False),
        ("2.6.24", True, False),
        ("2.6.32", True, True),
        ("6.1", True, True),
    ],
)
def test_old_kernels_look_at_the_first_page_alone(name: str, idle: bool, new: bool) -> None:
    buddy = _buddy(name)
    assert buddy.alloc(1) is not None
    at = buddy.alloc(1)
    assert at is not None
    _set(buddy, at + 1, "active")
    if idle:
        with pytest.raises(KernelBug, match=r"free_pages_check\(page\)"):
            buddy.free(at, 1)
    else:
        buddy.free(at, 1)
    buddy = _buddy(name)
    for pfn in (1, 3):
        _set(buddy, pfn, "active")
    if new:
        with pytest.raises(KernelBug, match=r"check_new_page\(page\)"):
            buddy.alloc(1)
    else:
        assert buddy.alloc(1) is not None


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

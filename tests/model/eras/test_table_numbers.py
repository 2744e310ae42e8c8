"""The numbers of the eras' table against comments, formulas and numbered lists of the kernel's headers."""

from __future__ import annotations

import re
from math import isqrt

import pytest
from every_era import ALL

from kvmtools.model import eras
from kvmtools.records import PAGE_SIZE

MIB = 1 << 20


def test_hash_multipliers() -> None:
    # include/linux/hash.h until 4.6: 2^31 + 2^29 - 2^25 + 2^22 - 2^19 - 2^16 + 1; then 2^32 over the square of the
    # golden ratio, (3 - sqrt 5) / 2.
    old = 2**31 + 2**29 - 2**25 + 2**22 - 2**19 - 2**16 + 1
    new = (3 * 2**32 - isqrt(5 * 2**64)) // 2
    assert [era.hash_multiplier for era in ALL] == [None] + [old] * 3 + [new] * 4


def test_sections() -> None:
    # sparsemem.h: 64 MiB; 1 GiB with PAE, from 2.6.32 on 512 MiB; 4 and 64 GiB of memory.
    assert [era.section_size_bits for era in ALL] == [None, (26, 30), (26, 30)] + [(26, 29)] * 5
    assert [era.max_physmem_bits for era in ALL] == [None] + [(32, 36)] * 7
    # mmzone.h: MARKED_PRESENT, HAS_MEM_MAP; then IS_ONLINE and IS_EARLY.
    assert [era.section_flag_bits for era in ALL] == [None, 2, 2, 2, 4, 4, 4, 4]


def test_orders() -> None:
    # mmzone.h: MAX_ORDER, later MAX_PAGE_ORDER + 1; blocks of 2 MiB in 2.4, of 4 MiB after it.
    assert [PAGE_SIZE << (era.max_order - 1) for era in ALL] == [2 * MIB] + [4 * MIB] * 7


def test_page_types_of_a_free_block() -> None:
    # page-flags.h: the bit PG_buddy, 0x80; then PGTY_buddy, 0xf0, in the top byte.
    assert [dict(era.page_types).get("buddy") for era in ALL] == [None] * 4 + [0x80] * 2 + [0xF0] * 2


def test_zones() -> None:
    # mmzone.h: DMA32 was there for everyone in 2.6.18; MOVABLE came in 2.6.23.
    assert [era.zone_names for era in ALL] == [
        ("DMA", "NORMAL", "HIGHMEM"),
        ("DMA", "DMA32", "NORMAL", "HIGHMEM"),
        *[("DMA", "NORMAL", "HIGHMEM", "MOVABLE")] * 6,
    ]


def test_struct_page() -> None:
    # mm.h of 2.4.16: 16 words on SMP; 8 words after it, without MEMCG.
    assert [era.page_struct_size for era in ALL] == [16 * 4] + [8 * 4] * 7
    # 2.4 with the zone in page->flags has it in the top byte, ZONE_SHIFT 24.
    assert [era.zone_flag_bits for era in ALL] == [8] + [None] * 7


def test_holes() -> None:
    # page_alloc.c: set_page_count(page, 0) in 2.4; init_page_count and reset_page_mapcount later.
    assert [era.hole_refcount for era in ALL] == [0] + [1] * 7
    assert [era.hole_mapcount for era in ALL] == [None] + [-1] * 7


def test_ram_types() -> None:
    # e820/types.h: 1 RAM, 3 ACPI, 128 RAM that the boot loader's data lie in.
    assert [era.ram_types for era in ALL] == [(1,)] * 4 + [(1, 128)] * 3 + [(1,)]
    assert [era.ram_end_types for era in ALL] == [(1,)] * 6 + [(1, 3)] * 2


def test_the_image_lies_at_1_mib_and_later_at_16() -> None:
    assert [era.image_at // MIB for era in ALL] == [1] * 3 + [16] * 5


def test_prot_none() -> None:
    # pgtable.h: 0x080; pgtable_types.h: the bit of global pages
    assert [1 << era.protnone_bit for era in ALL] == [0x080] * 3 + [0x100] * 5


def test_software_bits() -> None:
    # pgtable_types.h, as far as a 32-bit kernel has them: soft-dirty tracking and userfaultfd do not come into it.
    assert [" ".join(f"{bit}:{use}" for bit, use in era.software_bits) for era in ALL] == [
        *[""] * 3,
        "9:special 10:iomap 11:hidden",
        *["9:special"] * 2,
        "9:special 10:saved_dirty",
        "9:special 10:saved_dirty 11:kernel_4k",
    ]


#: The numbers that page-flags.h gives the flags, or would if it wrote them down.
FLAGS = {
    "2.4": "locked0 error1 referenced2 uptodate3 dirty4 unused5 lru6 active7 slab8 skip10 highmem11 checked12 arch_1-13"
    " reserved14 launder15",
    "2.6.18": "locked0 error1 referenced2 uptodate3 dirty4 lru5 active6 slab7 checked8 arch_1-9 reserved10 private11"
    " writeback12 nosave13 compound14 swapcache15 mappedtodisk16 reclaim17 nosave_free18 buddy19",
    "2.6.24": "locked0 error1 referenced2 uptodate3 dirty4 lru5 active6 slab7 owner_priv_1-8 arch_1-9 reserved10"
    " private11 writeback12 compound14 swapcache15 mappedtodisk16 reclaim17 buddy19",
    "2.6.32": "locked0 error1 referenced2 uptodate3 dirty4 lru5 active6 slab7 owner_priv_1-8 arch_1-9 reserved10"
    " private11 private_2-12 writeback13 head14 tail15 swapcache16 mappedtodisk17 reclaim18 buddy19 swapbacked20"
    " unevictable21 mlocked22 uncached23",
    "6.12": "locked0 writeback1 referenced2 uptodate3 dirty4 lru5 head6 waiters7 active8 workingset9 owner_priv_1-10"
    " owner_2-11 arch_1-12 reserved13 private14 private_2-15 reclaim16 swapbacked17 unevictable18 mlocked19 arch_2-20",
    "7.2": "locked0 writeback1 referenced2 uptodate3 dirty4 lru5 head6 waiters7 active8 workingset9 owner_priv_1-10"
    " owner_2-11 arch_1-12 reserved13 private14 private_2-15 reclaim16 swapbacked17 unevictable18 dropbehind19"
    " mlocked20 arch_2-21",
}


@pytest.mark.parametrize("name", FLAGS)
def test_page_flags(name: str) -> None:
    numbered = {flag: int(bit) for flag, bit in re.findall(r"(\w*[a-z](?:_\d)?)-?(\d+)", FLAGS[name])}
    names = eras.named(name).page_flags
    assert {flag: bit for bit, flag in enumerate(names) if flag != f"bit{bit}"} == numbered

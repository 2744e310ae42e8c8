"""Bounds for managed pages: every taker by hand, and where each is taken from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import machine, managed
from kvmtools.model.managed import Managed, Taker
from kvmtools.records import Configuration, E820Entry, Image

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]

#: Of QEMU's first MiB: pfns 1 to 0x9e.
LOW = 158
#: [16 MiB, 0x375fe000) of the small PAE kernel.
NORMAL = 0x375FE - 0x1000
REST = 256


def zones(configuration: Configuration, cpus: int | None = None) -> dict[str, Managed]:
    return {zone.zone: zone for zone in managed.predict(configuration, cpus)}


def taken(
    configuration: Configuration, zone: str = "NORMAL", cpus: int | None = None
) -> dict[str, tuple[int, int]]:
    return {taker.name: (taker.least, taker.most) for taker in zones(configuration, cpus)[zone].takers}


def test_every_page_of_a_2_gib_machine(configure: Configure) -> None:
    dma, normal, highmem, movable = managed.predict(configure(memory=2 * GIB))
    # reserve_real_mode(): the whole first MiB.
    assert dma == Managed("DMA", 4095, 3998, 3998 - LOW, 3998 - LOW, (Taker("first MiB", LOW, LOW),))
    takers = (
        # Text to data 0x5c0 pages, bss 0xa0; lock prefixes 0x10 and brk 0x30 perhaps.
        Taker("kernel image", 0x5C0 + 0xA0, 0x5C0 + 0xE0),
        # The first directory entry, two ends of two ranges; five and a part above ff5fe000; one page directory.
        Taker("page tables of the direct map and above", 0, 1 + 4 + 6 + 1),
        Taker("mem_map", 4096, 4096),
        Taker("pageblock bits", 0, 1),
        # 32 KiB at least; no static variables are known, so twice that at most.
        Taker("per-CPU areas of 1 CPUs", 8, 16),
        # 226,716 pages, a bucket of 4 bytes for every second page, to a power of two: 131072.
        Taker("dentry hash", 128, 128),
        Taker("inode hash", 64, 64),
        Taker("the rest", 0, REST),
    )
    assert normal.takers == takers
    assert (normal.zone, normal.spanned, normal.present) == ("NORMAL", NORMAL, NORMAL)
    assert normal.lower == NORMAL - (0x6A0 + 12 + 4096 + 1 + 16 + 128 + 64 + REST)
    assert normal.upper == NORMAL - (0x660 + 4096 + 8 + 128 + 64)
    pages = 0x80000 - 0x20 - 0x375FE
    assert highmem == Managed("HIGHMEM", pages, pages, pages, pages, ())
    assert movable == Managed("MOVABLE", 0, 0, 0, 0, ())


def test_holes_are_spanned_but_not_present(configure: Configure) -> None:
    """5 GiB are spanned, 128 KiB and 1 GiB of them no RAM."""
    highmem = zones(configure(memory=4 * GIB))["HIGHMEM"]
    assert highmem.spanned == 0x140000 - 0x375FE
    assert highmem.present == highmem.lower == highmem.upper == highmem.spanned - 0x40000 - 0x20


def test_5_10_leaves_most_of_the_first_mib_alone(configure: Configure) -> None:
    """64 KiB are kept, of which page 0 never was RAM; the BIOS's and the trampoline's places depend."""
    (first,) = zones(machine.configuration("5.10"))["DMA"].takers
    assert first == Taker("first MiB", 15, LOW)
    assert zones(machine.configuration("5.10"))["DMA"].lower == 3998 - LOW
    assert zones(machine.configuration("5.10"))["DMA"].upper == 3998 - 15
    for era in ("6.1", "6.12", "7.2"):
        assert zones(machine.configuration(era))["DMA"].upper == 3998 - LOW


@pytest.mark.parametrize("era", ["2.4", "2.6.18", "2.6.24", "2.6.32"])
def test_older_kernels_do_not_tell(era: str) -> None:
    with pytest.raises(UsageError, match=rf"kernels of {era} do not tell.*oldest era that does is 5\.10"):
        managed.predict(machine.configuration(era))


def test_bounce_buffers_with_ram_above_4_gib(configure: Configure) -> None:
    """64 MiB of 2 KiB slots, for which 12 to 20 bytes of record each."""
    above = (E820Entry(0, 640 << 10, 1), E820Entry(MIB, GIB, 1), E820Entry(4 * GIB, 4096, 1))
    here = taken(configure(e820=above))
    assert here["bounce buffers (swiotlb)"] == (16384, 16384)
    assert here["their records"] == (96, 160)
    for none in (
        configure(e820=(E820Entry(0, 4 * GIB, 1),)),
        configure(e820=above, pae=False),
        machine.configuration("7.2", e820=above),
    ):
        assert "bounce buffers (swiotlb)" not in taken(none)
        assert "their records" not in taken(none)


def test_the_map_of_either_memory_model(configure: Configure) -> None:
    assert taken(configure(memory=4 * GIB))["mem_map"] == (10240, 10240)
    sparse = taken(configure(memory=4 * GIB, sparsemem=True))
    assert sparse["mem_map"] == (8192, 8192)
    # 8 sections of 64 bytes.
    assert sparse["pageblock bits"] == (0, 1)


def test_per_cpu_areas(configure: Configure) -> None:
    """100 KiB and a byte of static variables: 26 pages; 36 KiB more with what modules and callers may want: 35."""
    sections = configure().image.sections | {"__per_cpu_start": 0xC1500000, "__per_cpu_end": 0xC1519001}
    configuration = configure(image=Image(0, sections), nr_cpus=3)
    assert taken(configuration)["per-CPU areas of 3 CPUs"] == (26, 3 * 35)
    assert taken(configuration, cpus=2)["per-CPU areas of 2 CPUs"] == (26, 2 * 35)


@pytest.mark.parametrize(
    ("memory", "dentry", "inode"),
    # 12 MiB: 3072 pages make 1536 and 768 buckets: 2048 and, a page's worth being the least, 1024.
    [("12M", 2, 1), ("64M", 8, 4), ("65M", 16, 8), ("512M", 64, 32), ("513M", 128, 64)],
)
def test_hash_tables_grow_by_powers_of_two(
    configure: Configure, memory: str, dentry: int, inode: int
) -> None:
    """8 KiB and 16 KiB of lowmem for a bucket; at most: in full lowmem is rounded up to whole MiB."""
    zone = "DMA" if memory == "12M" else "NORMAL"
    here = taken(configure(command_line=f"mem={memory}", image_at=2 * MIB), zone)
    assert here["dentry hash"][1] == dentry
    assert here["inode hash"][1] == inode


def test_hash_tables_at_least(configure: Configure) -> None:
    """66 MiB, less 528 KiB of map, 1 MiB, 1824 pages of image and 12 tables at most, are below 64 MiB."""
    here = taken(configure(command_line="mem=66M"))
    assert here["dentry hash"] == (8, 16)
    assert here["inode hash"] == (4, 8)
    # 64 GiB: 512 MiB less: 91,500 pages.
    here = taken(configure(e820=(E820Entry(0, 64 * GIB, 1),)))
    assert here["dentry hash"] == (64, 128)
    assert here["inode hash"] == (32, 64)


def test_hash_tables_at_least_to_the_page(configure: Configure) -> None:
    """70 MiB are 17,822 pages of RAM.  Known to be gone: 144 of map, 12 tables, the first MiB's 256, and an image of
    1026; 16,384 are left, for which 8192 buckets do.  With an image smaller by a page it takes twice as many."""
    for pages, least in ((1026, 8), (1025, 16)):
        image = Image(0, {"_text": 0xC1000000, "_end": 0xC1000000 + pages * 4096})
        assert taken(configure(command_line="mem=70M", image=image))["dentry hash"] == (least, 16)


def test_constants_of_the_kernel() -> None:
    """PCPU_MIN_UNIT_SIZE, PERCPU_MODULE_RESERVE and PERCPU_DYNAMIC_RESERVE (percpu.h), IO_TLB_DEFAULT_SIZE and
    IO_TLB_SHIFT (swiotlb.h), reserve_low of 5.10 (setup.c)."""
    assert managed.PER_CPU_SMALLEST == 32 * 1024
    assert managed.PER_CPU_EXTRA == 8 * 1024 + 28 * 1024
    assert (managed.SWIOTLB, managed.SWIOTLB_SLOT) == (64 * MIB, 2048)
    assert managed.RESERVE_LOW == 64 * 1024


def test_page_tables_without_large_pages(configure: Configure) -> None:
    """0x375fe pages in tables of 512 entries: 443; non-PAE 0x373fe in tables of 1024: 221, no page directory."""
    name = "page tables of the direct map and above"
    assert taken(configure(pse=False))[name] == (0, 443 + 6 + 1)
    assert taken(configure(debug_pagealloc=True))[name] == (0, 443 + 6 + 1)
    # From ff3fe000 on: three directory entries and a part of one.
    assert taken(configure(pae=False, pse=False))[name] == (0, 221 + 4 + 0)
    assert taken(configure(pae=False))[name] == (0, 5 + 4 + 0)
    # With a 1G split there are three page directories.
    assert taken(configure(page_offset=0x40000000))[name] == (0, 5 + 6 + 3)


def test_an_image_without_sections_is_kept_whole(configure: Configure) -> None:
    image = Image(0, {"_text": 0xC1000800, "_end": 0xC1700800})
    assert taken(configure(image=image))["kernel image"] == (0x701, 0x701)
    for missing in ("__init_begin", "__init_end", "__bss_start", "__bss_stop"):
        sections = dict(configure().image.sections)
        del sections[missing]
        assert taken(configure(image=Image(0, sections)))["kernel image"] == (0x720, 0x720)


def test_sections_where_the_image_is_not_known(configure: Configure) -> None:
    """The ordinary build's image of 8 MiB, less what is known to be freed."""
    known = {
        "__init_begin": 0xC1400000,
        "__init_end": 0xC1500000,
        "__bss_start": 0xC1600000,
        "__bss_stop": 0xC1700000,
    }
    assert taken(configure(image=Image(0, known)))["kernel image"] == (0x400 + 0x100, 0x400 + 0x300)


def test_an_image_across_two_zones(configure: Configure) -> None:
    """From 12 MiB: 0x400 pages of its text and data in zone DMA, the other 0x1c0 and bss in zone NORMAL."""
    configuration = configure(image_at=12 * MIB)
    assert taken(configuration, "DMA") == {"first MiB": (LOW, LOW), "kernel image": (0x400, 0x400)}
    assert taken(configuration)["kernel image"] == (0x1C0 + 0xA0, 0x1C0 + 0xE0)


def test_all_comes_from_zone_dma_if_there_is_no_other(configure: Configure) -> None:
    here = zones(configure(command_line="mem=14M", image_at=2 * MIB))
    assert [taker.name for taker in here["DMA"].takers][:3] == [
        "first MiB",
        "kernel image",
        "page tables of the direct map and above",
    ]
    assert here["NORMAL"] == Managed("NORMAL", 0, 0, 0, 0, ())


def test_both_zones_may_pay_if_one_is_too_small(configure: Configure) -> None:
    """17 MiB: the MiB of zone NORMAL holds the map, but not also all that the rest may come to."""
    here = zones(configure(command_line="mem=17M", image_at=2 * MIB))
    dma, normal = here["DMA"], here["NORMAL"]
    assert normal.present == 256
    assert (normal.lower, normal.upper) == (0, 256)
    assert Taker("the rest", 0, 256) in normal.takers
    assert Taker("mem_map", 0, 40) in normal.takers
    assert Taker("mem_map", 0, 40) in dma.takers
    # None of it is certain to come from here; the image and the first MiB are.
    assert dma.upper == 3998 - LOW - 0x660
    assert dma.lower == 3998 - LOW - sum(taker.most for taker in dma.takers[1:])
    # With 4 MiB more it is enough.
    assert len(zones(configure(command_line="mem=21M", image_at=2 * MIB))["DMA"].takers) == 2


def test_no_zone_is_taken_more_than_it_has(configure: Configure) -> None:
    """A machine of 16 MiB and a page: zone NORMAL is that page."""
    memory = str(16 * MIB + 4096)
    normal = zones(configure(command_line=f"mem={memory}", image_at=2 * MIB))["NORMAL"]
    assert (normal.present, normal.lower, normal.upper) == (1, 0, 1)
    assert Taker("mem_map", 0, 1) in normal.takers


def test_a_movable_zone_in_lowmem_pays(configure: Configure) -> None:
    """Without highmem, ZONE_MOVABLE is the top of lowmem, where memblock begins to take."""
    here = zones(configure(memory=512 * MIB, command_line="movablecore=128M"))
    assert "mem_map" in {taker.name for taker in here["MOVABLE"].takers}
    assert [taker.name for taker in here["NORMAL"].takers] == ["kernel image"]


def test_a_kernel_that_does_not_boot(configure: Configure) -> None:
    changes: dict[str, Any] = {"e820": (E820Entry(0, 64 * GIB, 1),), "page_struct_size": 64}
    with pytest.raises(UsageError, match="this kernel does not boot: mem_map takes"):
        managed.predict(configure(**changes))
    with pytest.raises(UsageError, match="this kernel does not boot: mem_map takes 128 pieces"):
        managed.predict(configure(sparsemem=True, **changes))

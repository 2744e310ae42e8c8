"""The address space.  [R]: seen on running 6.1 kernels with NR_CPUS=1 (FACTS A.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import predict

from kvmtools.errors import UsageError
from kvmtools.model import machine
from kvmtools.model.space.layout import maxmem_pfn
from kvmtools.records import Configuration, Layout

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]


def test_pae_with_one_cpu(configure: Configure) -> None:
    """[R], "885MB LOWMEM"."""
    assert predict(configure()) == Layout(
        page_offset=0xC0000000,
        high_memory=0xF75FE000,
        vmalloc_start=0xF7DFE000,
        vmalloc_end=0xFF5FE000,
        pkmap_base=0xFF600000,
        last_pkmap=512,
        ldt_base=0xFF800000,
        ldt_end=0xFFA00000,
        cpu_entry_area_base=0xFFA00000,
        cpu_entry_area_end=0xFFA00000 + 44 * 4096,
        fixaddr_tot_start=0xFFFFF000 - 1025 * 4096,
        fixaddr_start=0xFFFEB000,
        fixaddr_top=0xFFFFF000,
        max_low_pfn=0x375FE,
        max_pfn=0x7FFE0,
        highstart_pfn=0x375FE,
        highend_pfn=0x7FFE0,
        max_mapnr=0x7FFE0,
    )


def test_non_pae_with_one_cpu(configure: Configure) -> None:
    """[R], "883MB LOWMEM"."""
    layout = predict(configure(pae=False))
    assert layout.cpu_entry_area_base == 0xFFC00000
    assert layout.ldt_base == 0xFF800000
    assert layout.pkmap_base == 0xFF400000
    assert layout.last_pkmap == 1024
    assert layout.vmalloc_end == 0xFF3FE000
    assert layout.fixaddr_start == 0xFFFEB000
    assert layout.max_low_pfn == 0x373FE
    assert layout.high_memory == 0xF73FE000


@pytest.mark.parametrize(("pae", "slots"), [(False, 1024), (True, 512)])
def test_gorman_the_slots_are_one_page_table(configure: Configure, pae: bool, slots: int) -> None:
    """Gorman 10.1: LAST_PKMAP is 1024 without PAE, 512 with it: PTRS_PER_PTE, one page of PTEs."""
    layout = predict(configure(pae=pae))
    assert layout.last_pkmap == slots
    assert layout.pkmap_base is not None
    assert layout.ldt_base == layout.pkmap_base + slots * 4096


def test_more_cpus_push_everything_down(configure: Configure) -> None:
    """64 entry areas of 43 pages and the IDT page are 2753 pages: six directory entries of PAE."""
    layout = predict(configure(nr_cpus=64))
    assert layout.cpu_entry_area_base == 0xFF000000
    assert layout.cpu_entry_area_end == 0xFF000000 + 2753 * 4096
    assert layout.ldt_base == 0xFEE00000
    assert layout.pkmap_base == 0xFEC00000
    assert layout.max_low_pfn == (0xFEBFE000 - 0xC0000000 - 128 * MIB) >> 12


def test_a_small_machine_is_all_lowmem(configure: Configure) -> None:
    layout = predict(configure(memory=512 * MIB))
    assert layout.max_low_pfn == layout.max_pfn == layout.highstart_pfn == layout.highend_pfn == 0x1FFE0
    assert layout.high_memory == 0xC0000000 + 0x1FFE0000
    assert layout.vmalloc_start == layout.high_memory + 8 * MIB


@pytest.mark.parametrize(
    ("command_line", "max_low_pfn"),
    [
        ("vmalloc=256M", (0xFF5FE000 - 0xC0000000 - 264 * MIB) >> 12),
        ("vmalloc=128M", (0xFF5FE000 - 0xC0000000 - 136 * MIB) >> 12),
        ("vmalloc=64M vmalloc=256M", (0xFF5FE000 - 0xC0000000 - 264 * MIB) >> 12),
        ("vmalloc", 0x375FE),
    ],
)
def test_vmalloc_sets_the_size_that_can_be_used(
    configure: Configure, command_line: str, max_low_pfn: int
) -> None:
    """The guard hole of 8 MiB is added to what was asked; the built-in 128 MiB include it."""
    layout = predict(configure(command_line=command_line))
    assert layout.max_low_pfn == max_low_pfn


def test_reservetop_moves_the_fixmap(configure: Configure) -> None:
    layout = predict(configure(command_line="reservetop=0x1000000"))
    assert layout.fixaddr_top == 0xFEFFF000
    assert layout.cpu_entry_area_base == 0xFEA00000
    rounded = predict(configure(command_line="reservetop=1"))
    assert rounded.fixaddr_top == 0xFFDFF000
    assert predict(configure(command_line="reservetop=0")) == predict(configure())


@pytest.mark.parametrize(
    ("memory", "command_line", "expected"),
    [
        (512 * MIB, "highmem=64M", (0x1FFE0 - 0x4000, 0x1FFE0)),
        (512 * MIB, "highmem=1G", (0x1FFE0, 0x1FFE0)),
        (512 * MIB, "highmem=460M", (0x1FFE0, 0x1FFE0)),
        (512 * MIB, "highmem=0", (0x1FFE0, 0x1FFE0)),
        (2 * GIB, "highmem=64M", (0x375FE, 0x375FE + 0x4000)),
        (2 * GIB, "highmem=0", (0x375FE, 0x375FE)),
        (2 * GIB, "highmem=8G", (0x375FE, 0x7FFE0)),
    ],
)
def test_highmem(configure: Configure, memory: int, command_line: str, expected: tuple[int, int]) -> None:
    """Out of lowmem it takes pages unless fewer than 64 MiB would be left; above, it trims max_pfn."""
    layout = predict(configure(memory=memory, command_line=command_line))
    assert (layout.max_low_pfn, layout.max_pfn) == expected
    assert layout.highstart_pfn == expected[0]
    assert layout.max_mapnr == expected[1]


def test_without_highmem_the_rest_is_lost(configure: Configure) -> None:
    layout = predict(configure(highmem=False, zone_names=("DMA", "NORMAL", "MOVABLE")))
    assert layout.pkmap_base is None
    assert layout.last_pkmap is None
    assert layout.highend_pfn is None
    assert layout.vmalloc_end == 0xFF7FE000
    assert layout.max_low_pfn == layout.max_pfn == layout.max_mapnr == 0x377FE
    ignored = predict(
        configure(
            highmem=False,
            zone_names=("DMA", "NORMAL", "MOVABLE"),
            memory=512 * MIB,
            command_line="highmem=64M",
        )
    )
    assert ignored.max_low_pfn == 0x1FFE0


def test_sparsemem_has_no_max_mapnr(configure: Configure) -> None:
    assert predict(configure(sparsemem=True)).max_mapnr is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"page_offset": 0xB0000000}, "not on a boundary of 1024 MiB"),
        ({"pae": False, "page_offset": 0xC0001000}, "not on a boundary of 4 MiB"),
        ({"page_offset": 0}, "not on a boundary"),
        ({"pae": False, "nx": True}, "no NX bit"),
        ({"pae": False, "pti": True}, "isolation on i386 needs PAE"),
        ({"nr_cpus": 0}, "NR_CPUS is 0"),
        ({"cpu_entry_area_size": 4097}, "whole pages"),
        ({"cpu_entry_area_size": 0}, "whole pages"),
        ({"end_of_permanent_fixed_addresses": 2000}, "slots end after"),
        ({"highmem": False}, "HIGHMEM"),
        ({"zone_names": ("DMA", "HIGHMEM")}, "without zone NORMAL"),
        ({"max_order": 0}, "no orders"),
        ({"command_line": "vmalloc=1G"}, "leaves no room for lowmem"),
        ({"command_line": "vmalloc=0"}, "leaves no vmalloc area"),
    ],
)
def test_impossible_configurations_are_refused(
    configure: Configure, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        predict(configure(**changes))


@given(
    pae=st.booleans(),
    nr_cpus=st.integers(1, 64),
    memory=st.integers(64, 60 * 1024).map(lambda mib: mib * MIB),
    vmalloc=st.sampled_from(["", "vmalloc=192M", "vmalloc=64M reservetop=8M", "highmem=32M"]),
    permanent=st.integers(5, 600),
)
def test_every_layout_is_in_order(
    configure: Configure, pae: bool, nr_cpus: int, memory: int, vmalloc: str, permanent: int
) -> None:
    configuration = configure(
        pae=pae,
        nr_cpus=nr_cpus,
        memory=memory,
        command_line=vmalloc,
        end_of_permanent_fixed_addresses=permanent,
        end_of_fixed_addresses=permanent + 513,
    )
    layout = predict(configuration)
    known = {name: value or 0 for name, value in layout.items()}
    order = [
        "page_offset",
        "high_memory",
        "vmalloc_start",
        "vmalloc_end",
        "pkmap_base",
        "ldt_base",
        "cpu_entry_area_base",
        "cpu_entry_area_end",
        "fixaddr_tot_start",
        "fixaddr_start",
        "fixaddr_top",
    ]
    addresses = [known[name] for name in order]
    assert addresses == sorted(addresses)
    assert known["pkmap_base"] + 4096 * known["last_pkmap"] == known["ldt_base"]
    assert known["ldt_end"] == known["cpu_entry_area_base"]
    assert known["pkmap_base"] - known["vmalloc_end"] == 2 * 4096
    assert known["vmalloc_end"] - known["vmalloc_start"] >= 56 * MIB
    assert known["high_memory"] == known["page_offset"] + known["highstart_pfn"] * 4096
    assert known["max_low_pfn"] <= known["max_pfn"] == known["highend_pfn"]


def test_maxmem_does_not_depend_on_ram(configure: Configure) -> None:
    """Measured in guests with 2 GiB (FACTS A.1); 896 MiB is what the origin text's 2.4 had."""
    for memory in (64 << 20, 2 << 30):
        assert maxmem_pfn(configure(memory=memory)) == 0x375FE
        assert maxmem_pfn(configure(memory=memory, pae=False)) == 0x373FE
    assert maxmem_pfn(machine.configuration("2.4")) == 0x38000

"""Every load is counted, and every leaf it goes through; by hand on one side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kernel_spaces import IMAGE, PAGE_OFFSET, kernel_space

from kvmtools.errors import UsageError
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.metered_memory import DEFAULT_IMAGE, Cost, KernelSpace, TlbEntry, booted
from kvmtools.model.memory.ram import Ram
from kvmtools.model.paging.forms import PRESENT, long_mode, pae
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, E820Entry, Image, Range

MIB = 1 << 20
Configure = Callable[..., Configuration]
RAM = (Range(0, 0x8100),)
"""129 MiB: the last MiB is no large page."""


def test_the_direct_map_is_arithmetic() -> None:
    space = kernel_space(*RAM)
    assert space.direct(0x345000) == 0xC0345000
    assert space.lowmem == Range(0, 0x8100)
    assert space.leaf(0xC0345678) == TlbEntry(0xC0200000, 0x200000, 2 * MIB)
    assert space.leaf(0xC8000000 + 0x1234) == TlbEntry(0xC8001000, 0x8001000, 4096)
    assert space.leaf(0xC80FFFFF) == TlbEntry(0xC80FF000, 0x80FF000, 4096)
    assert space.leaf(0xC8100000) is None
    assert space.leaf(0xBFFFFFFF) is None


def test_large_pages_are_those_of_the_form() -> None:
    assert kernel_space(*RAM, with_pae=False).leaf(0xC0345678) == TlbEntry(0xC0000000, 0, 4 * MIB)
    assert (kernel_space(*RAM).large_page, kernel_space(*RAM, with_pae=False).large_page) == (
        2 * MIB,
        4 * MIB,
    )


def test_the_size_of_a_large_page_is_asked_for_once() -> None:
    asked: list[int] = []

    def may_be_large(start: int) -> bool:
        asked.append(start)
        return False

    space = KernelSpace(
        pae(), RAM, page_offset=PAGE_OFFSET, mapped=Ram(RAM, 0x8100), may_be_large=may_be_large, image=IMAGE
    )
    assert space.leaf(0xC0345678) == TlbEntry(0xC0345000, 0x345000, 4096)
    assert space.leaf(0xC0346000) == TlbEntry(0xC0346000, 0x346000, 4096)
    assert asked == [0x200000]


def test_what_is_not_in_the_direct_map_is_in_page_tables() -> None:
    space = kernel_space(*RAM)
    space.tables.map(0xF8003000, 0x5000, flags=PRESENT)
    assert space.leaf(0xF8003456) == TlbEntry(0xF8003000, 0x5000, 4096)
    space.write(0xF8003456, 4, 0x11223344)
    assert space.memory.read(0x5456, 4) == bytes([0x44, 0x33, 0x22, 0x11])
    assert space.read(0xC0005456, 4) == 0x11223344
    assert space.read(0xF8003457, 1) == 0x33


def test_a_touch_is_a_load_too() -> None:
    space = kernel_space(*RAM)
    assert space.measure(lambda: space.touch(0xC0345678)) == Cost(1, 1, 1)
    with pytest.raises(Unmapped):
        space.touch(0xF8000000)


def test_memory_is_where_ram_is() -> None:
    assert kernel_space(Range(0x80, 0x200)).memory.ranges == (Range(0x80000, 0x200000),)


def test_what_nothing_maps_is_a_fault() -> None:
    space = kernel_space(*RAM)
    with pytest.raises(Unmapped, match=r"at f8000010: nothing is mapped there") as caught:
        space.read(0xF8000010, 4)
    assert caught.value.address == 0xF8000010
    with pytest.raises(Unmapped):
        space.write(0xF8000010, 4, 1)


def test_the_page_directory_is_in_the_image_and_variables_follow_it() -> None:
    space = kernel_space(*RAM)
    assert space.tables.root == 0x100000
    assert space.variable() == 0xC0101000
    assert space.variable(3) == 0xC0101004
    assert space.variable() == 0xC0101010
    assert (
        KernelSpace(
            pae(),
            RAM,
            page_offset=PAGE_OFFSET,
            mapped=Ram(RAM, 0x8100),
            may_be_large=lambda start: True,
            image=IMAGE,
            bss=0x104,
        ).variable()
        == 0xC0105000
    )


def test_page_tables_come_from_the_top_of_lowmem() -> None:
    """In highmem the kernel could not read them."""
    space = kernel_space(Range(0, 0x50000))
    assert space.table_page() == 0x2FFFF000
    assert space.memblock.free == (Range(0x110, 0x2FFFF), Range(0x30000, 0x50000))


def test_the_first_mib_and_the_image_are_taken() -> None:
    assert kernel_space(*RAM).memblock.free == (Range(0x110, 0x8100),)
    assert Range(16 * MIB >> 12, 24 * MIB >> 12) == DEFAULT_IMAGE


@pytest.mark.parametrize("end", [IMAGE.start, IMAGE.end - 1])
def test_lowmem_without_the_image_boots_nothing(end: int) -> None:
    with pytest.raises(UsageError, match=r"image, pfns \[0x100, 0x110\), is not all in lowmem") as caught:
        kernel_space(*RAM, max_low_pfn=end)
    assert f"ends at pfn {end:#x}" in caught.value.hint
    assert kernel_space(*RAM, max_low_pfn=IMAGE.end).lowmem.end == IMAGE.end


def test_a_word_is_a_long() -> None:
    assert kernel_space(*RAM).word == kernel_space(*RAM, with_pae=False).word == 4
    space = KernelSpace(
        long_mode(),
        RAM,
        page_offset=0xFFFF888000000000,
        mapped=Ram(RAM, 0x8100),
        may_be_large=lambda start: True,
        image=IMAGE,
    )
    assert space.word == 8
    assert space.variable(2) + 16 == space.variable()


@pytest.mark.parametrize(
    ("with_pae", "address", "walk"),
    # The PDPTE of PAE paging is in a register (SDM 3A 4.4.1), so a 2 MiB leaf takes one read: its PDE.
    [(True, 0xC0345678, 1), (True, 0xC8000000, 2), (False, 0xC0345678, 1), (False, 0xC8000000, 2)],
)
def test_one_load(with_pae: bool, address: int, walk: int) -> None:
    space = kernel_space(*RAM, with_pae=with_pae)
    assert space.measure(lambda: space.read(address, 4)) == Cost(1, 1, walk, 0)
    assert space.measure(lambda: space.write(address, 4, 7)) == Cost(1, 1, walk, 0)


def test_a_leaf_is_counted_once_and_a_load_each_time() -> None:
    space = kernel_space(*RAM)

    def four_loads_through_three_leaves() -> None:
        for address in (0xC0345678, 0xC0200000, 0xC0400000, 0xC8000000):
            space.read(address, 4)

    assert space.measure(four_loads_through_three_leaves) == Cost(4, 3, 1 + 1 + 2, 0)
    assert space.measure(lambda: None) == Cost(0, 0, 0, 0)
    assert Cost(1, 2, 3) == (1, 2, 3, 0)


def test_a_fault_is_counted_and_is_no_load() -> None:
    space = kernel_space(*RAM)

    def survive() -> None:
        with pytest.raises(Unmapped):
            space.read(0xF8000000, 4)

    assert space.measure(survive) == Cost(0, 0, 0, 1)
    assert space.measure(lambda: (survive(), survive())) == Cost(0, 0, 0, 2)
    assert space.measure(lambda: None).faults == 0


def test_measuring_ends_with_an_exception_too() -> None:
    space = kernel_space(*RAM)
    with pytest.raises(Unmapped):
        space.measure(lambda: space.read(0xF8000000, 4))
    space.read(0xC0345678, 4)
    assert space.measure(lambda: space.read(0xC0345678, 4)) == Cost(1, 1, 1, 0)


def test_a_configuration_gives_lowmem_and_the_image(configure: Configure) -> None:
    """PAE, 2 GiB, the image of conftest: 7.125 MiB at 16 MiB, with its bss 0x650 pages in."""
    space = booted(Prediction(configure()))
    assert space.lowmem == Range(0, 0x375FE)
    assert space.tables.root == 0x1650000
    assert space.variable() == 0xC1651000
    assert space.memblock.free == (Range(0x100, 0x1000), Range(0x1720, 0x7FFE0))
    # The first directory entry is always in small pages; lowmem ends within one (FACTS D).
    assert space.leaf(0xC0000000) is None, "pfn 0 is no RAM"
    assert space.leaf(0xC0001000) == TlbEntry(0xC0001000, 0x1000, 4096)
    assert space.leaf(0xC0200000) == TlbEntry(0xC0200000, 0x200000, 2 * MIB)
    assert space.leaf(0xF73FFFFF) == TlbEntry(0xF7200000, 0x37200000, 2 * MIB)
    assert space.leaf(0xF7400000) == TlbEntry(0xF7400000, 0x37400000, 4096)


def test_without_sections_the_image_is_where_images_are(configure: Configure) -> None:
    space = booted(Prediction(configure(image=Image(0, {}))))
    assert space.tables.root == 0x1000000
    assert space.memblock.free == (Range(0x100, 0x1000), Range(0x1800, 0x7FFE0))


def test_sections_say_where_the_image_and_its_variables_are(configure: Configure) -> None:
    sections = {"_text": 0xC1000000, "__bss_start": 0xC1100000, "_end": 0xC1200001}

    def without(*names: str, **others: int) -> KernelSpace:
        known = {name: address for name, address in (sections | others).items() if name not in names}
        return booted(Prediction(configure(image=Image(0, known))))

    assert without().tables.root == 0x1100000
    assert without().memblock.free[1].start == 0x1201
    # Nobody says where the image is: at 16 MiB, 8 MiB long; variables begin where it does unless bss lies in it.
    for name in ("_text", "_end"):
        assert without(name).memblock.free[1].start == 0x1800
        assert without(name).tables.root == 0x1100000
        assert without(name, __bss_start=0xC1800000).tables.root == 0x1000000
    assert without("__bss_start").tables.root == 0x1000000
    assert without("__bss_start").memblock.free[1].start == 0x1201


def test_lowmem_that_is_cut_short_ends_to_the_page(configure: Configure) -> None:
    space = booted(Prediction(configure()), 0x20100)
    assert space.lowmem == Range(0, 0x20100)
    assert space.leaf(0xDFFFFFFF) == TlbEntry(0xDFE00000, 0x1FE00000, 2 * MIB)
    assert space.leaf(0xE0000000) == TlbEntry(0xE0000000, 0x20000000, 4096)
    assert space.leaf(0xE0100000) is None
    assert booted(Prediction(configure()), 0x20200).leaf(0xE0000000) == TlbEntry(
        0xE0000000, 0x20000000, 2 * MIB
    )
    assert booted(Prediction(configure()), 0x375FE).lowmem == Range(0, 0x375FE)


def test_memory_that_the_kernel_ignores_is_not_there(configure: Configure) -> None:
    """A non-PAE kernel sees nothing above 4 GiB."""
    e820 = (E820Entry(MIB, 512 * MIB, 1), E820Entry(4096 * MIB, 512 * MIB, 1))
    assert booted(Prediction(configure(pae=False, e820=e820))).ram == (Range(0x100, 0x20100),)
    assert booted(Prediction(configure(pae=True, e820=e820))).ram[1] == Range(0x100000, 0x120000)

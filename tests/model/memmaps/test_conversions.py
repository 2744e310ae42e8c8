"""Three kinds of mem_map over the same hole-ridden RAM, beside plain sets of pfns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_spaces import IMAGE, kernel_space

from kvmtools.errors import UsageError
from kvmtools.model import machine
from kvmtools.model.bugs import Unmapped
from kvmtools.model.memmaps.conversions import OPERATIONS, MemMapKind
from kvmtools.model.memmaps.flat_map import FlatMap, flat_map
from kvmtools.model.memmaps.sparse_map import SparseMap, sparse_map
from kvmtools.model.memmaps.virtual_map import VirtualMap, virtual_map
from kvmtools.model.pages.flags_layout import FlagsLayout
from kvmtools.model.prediction import Prediction
from kvmtools.records import Range

BASE = Range(0, 0x180)
"""1.5 MiB of RAM for the image and the maps."""
END = 0x280
BLOCK = 16
SECTION = 32
FLAGS = FlagsLayout(24, 8, 22, 2)
WINDOW = 0xE0000000
GIB = 1 << 30


@st.composite
def ram_maps(draw: st.DrawFn) -> tuple[Range, ...]:
    """BASE, and behind it up to four ranges with holes between them."""
    edges = sorted(draw(st.lists(st.integers(BASE.end + 1, END), max_size=8, unique=True)))
    return BASE, *(Range(*pair) for pair in zip(edges[::2], edges[1::2], strict=False))


def pfns(ranges: tuple[Range, ...]) -> set[int]:
    return {pfn for r in ranges for pfn in range(r.start, r.end)}


def flat(ram: tuple[Range, ...], size: int) -> FlatMap:
    end = ram[-1].end
    return FlatMap(kernel_space(*ram), size, -(-end // BLOCK) * BLOCK, end)


def sparse(ram: tuple[Range, ...], size: int, extreme: bool = False) -> SparseMap:
    sections = sorted({pfn // SECTION for pfn in pfns(ram)})
    return SparseMap(kernel_space(*ram), size, sections, SECTION, FLAGS, extreme=extreme)


def virtual(ram: tuple[Range, ...], size: int) -> VirtualMap:
    made = VirtualMap(kernel_space(*ram), size, WINDOW, END, 4096, [BASE])
    for r in ram:
        made.add(r.start, r.end)
    return made


def expected(ram: tuple[Range, ...], size: int, kind: str) -> set[int]:
    """Which pfns are valid, byte by byte and pfn by pfn."""
    end = ram[-1].end
    if kind == "flat":
        return set(range(end))
    if kind == "sparse":
        sections = {pfn // SECTION for pfn in pfns(ram)}
        return {pfn for pfn in range(END) if pfn // SECTION in sections}
    leaves = {at // 4096 for pfn in pfns(ram) for at in (pfn * size, pfn * size + size - 1)}
    return {pfn for pfn in range(end) if {pfn * size // 4096, (pfn * size + size - 1) // 4096} <= leaves}


@settings(deadline=None, max_examples=20)
@given(ram=ram_maps(), size=st.sampled_from([32, 36, 40, 56, 64]), extreme=st.booleans())
def test_all_kinds_agree(ram: tuple[Range, ...], size: int, extreme: bool) -> None:
    maps: dict[str, MemMapKind] = {
        "flat": flat(ram, size),
        "sparse": sparse(ram, size, extreme),
        "virtual": virtual(ram, size),
    }
    for kind, mem_map in maps.items():
        valid = expected(ram, size, kind)
        assert pfns(mem_map.valid) == valid
        assert pfns(ram) <= valid
        pages = set()
        for pfn in range(END + 1):
            assert mem_map.pfn_valid(pfn) is (pfn in valid), (kind, pfn)
            if pfn in valid:
                page = mem_map.pfn_to_page(pfn)
                assert mem_map.page_to_pfn(page) == pfn
                pages.add(page)
        # Struct pages do not overlap.
        assert len(pages) == len(valid)
        assert all(b - a >= size for a, b in zip(sorted(pages), sorted(pages)[1:], strict=False))


@settings(deadline=None, max_examples=25)
@given(ram=ram_maps(), data=st.data())
def test_all_kinds_agree_about_addresses(ram: tuple[Range, ...], data: st.DataObject) -> None:
    maps: list[MemMapKind] = [flat(ram, 32), sparse(ram, 32), virtual(ram, 32)]
    for pfn in data.draw(st.lists(st.sampled_from(sorted(pfns(ram))), max_size=20)):
        offset = data.draw(st.integers(0, 4095))
        for mem_map in maps:
            page = mem_map.virt_to_page(0xC0000000 + pfn * 4096 + offset)
            assert page == mem_map.pfn_to_page(pfn)
            assert mem_map.page_address(page) == 0xC0000000 + pfn * 4096
            mem_map.write(page, 28, pfn + 1)
        for mem_map in maps:
            assert mem_map.read(mem_map.pfn_to_page(pfn), 28) == pfn + 1


@pytest.mark.parametrize("memory", [512 << 20, GIB, 64 * GIB])
@pytest.mark.parametrize("pae", [True, False])
@pytest.mark.parametrize("size", [32, 40])
def test_kinds_of_one_machine(memory: int, pae: bool, size: int) -> None:
    """What the live comparison predicts to be valid is what the built maps say, at every edge."""
    configuration = machine.configuration("6.1", memory=memory, pae=pae, page_struct_size=size)
    sparse_configuration = machine.configuration(
        "6.1", memory=memory, pae=pae, page_struct_size=size, sparsemem=True
    )
    ram = Prediction(configuration).ram
    maps = flat_map(configuration), sparse_map(configuration), virtual_map(configuration)
    assert maps[0].valid == Prediction(configuration).memmap.valid
    assert maps[1].valid == Prediction(sparse_configuration).memmap.valid
    flags = Prediction(sparse_configuration).memmap.flags
    for mem_map in maps:
        edges = {edge for r in (*mem_map.valid, *mem_map.space.ram) for edge in (r.start, r.end)}
        for pfn in sorted({near for edge in edges for near in (edge - 1, edge, edge + 1)}):
            assert mem_map.pfn_valid(pfn) is any(pfn in r for r in mem_map.valid), (mem_map.kind, pfn)
            if mem_map.pfn_valid(pfn):
                page = mem_map.pfn_to_page(pfn)
                assert mem_map.page_to_pfn(page) == pfn
                if mem_map is maps[1]:
                    assert flags.section(mem_map.read(page)) == pfn // mem_map.section_pages
            if pfn in ram and pfn < mem_map.space.ram[-1].end:
                assert mem_map.pfn_valid(pfn)


def test_no_struct_page_lies_in_the_image_or_in_another_map() -> None:
    for mem_map in (flat((BASE,), 32), sparse((BASE,), 32)):
        page = mem_map.pfn_to_page(0)
        assert page >= 0xC0000000 + IMAGE.end * 4096
        with pytest.raises(Unmapped):
            mem_map.read(0xC0000000 + BASE.end * 4096)


def test_operations_are_those_that_take_one_number() -> None:
    assert OPERATIONS == (
        "pfn_valid", "pfn_to_page", "page_to_pfn", "virt_to_page", "page_address", "read",
    )  # fmt: skip


def test_the_second_byte_of_a_struct_page_is_no_struct_page() -> None:
    mem_map = flat((BASE,), 32)
    with pytest.raises(UsageError, match="it is 1 bytes into one"):
        mem_map.page_to_pfn(mem_map.pfn_to_page(7) + 1)

"""The virtual mem_map: leaves, neighbours, straddlers, windows; figures by hand or from the debate of 2006."""

from __future__ import annotations

import pytest
from kernel_spaces import kernel_space

from kvmtools.errors import UsageError
from kvmtools.model import machine
from kvmtools.model.budget import VIRTUAL, VIRTUAL_LARGE, VIRTUAL_LARGE_LOWMEM, VIRTUAL_LOWMEM, Kind, budget
from kvmtools.model.bugs import Unmapped
from kvmtools.model.conversions import Footprint
from kvmtools.model.flat_map import flat_map
from kvmtools.model.kernel_space import Cost
from kvmtools.model.paging import walk
from kvmtools.model.prediction import Prediction
from kvmtools.model.virtual_map import VirtualMap, virtual_map, window
from kvmtools.records import E820Entry, Range

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RAM = Range(0, 0x8000)
"""128 MiB."""
START = 0xE0000000


def small(
    *added: Range, size: int = 32, leaf: int = 4096, pages: int = 0x20000, with_pae: bool = True
) -> VirtualMap:
    """A window at 0xe0000000 with room for 512 MiB, backed by 128 MiB of lowmem."""
    mem_map = VirtualMap(kernel_space(RAM, with_pae=with_pae), size, START, pages, leaf, [RAM])
    for r in added:
        mem_map.add(r.start, r.end)
    return mem_map


def both_tests(mem_map: VirtualMap, pfn: int) -> bool:
    """The walk and the fault-probe, which must agree."""
    valid = mem_map.pfn_valid(pfn)
    assert mem_map.pfn_valid_by_fault(pfn) is valid
    return valid


def test_conversions_are_arithmetic_on_a_constant() -> None:
    mem_map = small(Range(0, 0x8000))
    assert mem_map.pfn_to_page(0x123) == START + 0x123 * 32
    assert mem_map.page_to_pfn(START + 0x123 * 32) == 0x123
    assert mem_map.virt_to_page(0xC0123FFF) == START + 0x123 * 32
    assert mem_map.page_address(START + 0x123 * 32) == 0xC0123000
    assert mem_map.page_address(START + 0x8000 * 32) is None
    assert mem_map.kind == "virtual"


@pytest.mark.parametrize("operation", ["pfn_to_page", "page_to_pfn", "virt_to_page", "page_address"])
def test_conversions_cost_nothing(operation: str) -> None:
    argument = {"pfn_to_page": 0x123, "virt_to_page": 0xC0123000}.get(operation, START + 0x123 * 32)
    assert small(Range(0, 0x8000)).cost(operation, argument) == Cost(0, 0, 0)


def test_an_address_outside_the_window_is_no_struct_page() -> None:
    mem_map = small(pages=1000)
    assert mem_map.page_to_pfn(START + 999 * 32) == 999
    for page in (START + 1000 * 32, START - 32):
        with pytest.raises(UsageError, match=f"{page:#x} is not in the virtual mem_map") as caught:
            mem_map.page_to_pfn(page)
    assert caught.value.hint == "its window is 0xe0000000-0xe0200000"
    with pytest.raises(UsageError, match="it is 4 bytes into one"):
        mem_map.page_to_pfn(START + 36)


def test_an_address_outside_lowmem_has_no_page() -> None:
    mem_map = small()
    assert mem_map.virt_to_page(0xC7FFFFFF) == START + 0x7FFF * 32
    for address in (0xC8000000, 0xBFFFFFFF):
        with pytest.raises(UsageError, match=f"{address:#x} is not in lowmem") as caught:
            mem_map.virt_to_page(address)
    assert caught.value.hint == "lowmem is 0xc0000000-0xc8000000"


def test_an_operation_must_exist() -> None:
    with pytest.raises(UsageError, match="no operation is named 'pfn_to_virt'") as caught:
        small().cost("pfn_to_virt", 1)
    assert caught.value.hint.endswith("page_address, read, pfn_valid_by_fault")


def test_nothing_is_valid_before_it_is_added() -> None:
    mem_map = small()
    assert mem_map.valid == ()
    assert not both_tests(mem_map, 0)
    with pytest.raises(Unmapped, match="the virtual map has no struct page at 0xe0000000"):
        mem_map.read(START)


def test_neighbours_on_a_leaf_are_valid_too() -> None:
    """128 struct pages of 32 bytes are on a page, so two pfns at the border of two pages make 256 valid."""
    mem_map = small(Range(0x1FF, 0x201), Range(0x1000, 0x1001))
    assert mem_map.valid == (Range(0x180, 0x280), Range(0x1000, 0x1001))
    answers = [(0x17F, False), (0x180, True), (0x27F, True), (0x280, False), (0xFFF, False), (0x1000, True)]
    for pfn, answer in [*answers, (0x1001, False), (-1, False)]:
        assert both_tests(mem_map, pfn) is answer, hex(pfn)


def test_max_pfn_ends_what_is_valid_though_the_leaf_goes_on() -> None:
    """The mail: pfn < max_pfn && valid_page_table_entry(pfn)."""
    mem_map = small(Range(0, 5))
    assert mem_map.valid == (Range(0, 5),)
    assert mem_map.read(mem_map.pfn_to_page(127)) == 0
    assert not both_tests(mem_map, 5)
    mem_map.add(0x100, 0x101)
    assert both_tests(mem_map, 127)
    assert not both_tests(mem_map, 128)
    mem_map.add(3, 4)
    assert both_tests(mem_map, 0x100), "max_pfn does not shrink"


def test_memory_that_does_not_suffice_is_left_for_others() -> None:
    """A range that needs two pages takes none if there is one, and a range that needs one can have it."""
    mem_map = VirtualMap(kernel_space(RAM), 32, START, 0x1000, 4096, [Range(0x1000, 0x1001)])
    free = mem_map.space.memblock.free
    with pytest.raises(UsageError, match="no memory for 2 pages of mem_map"):
        mem_map.add(127, 129)
    assert mem_map.space.memblock.free == free
    assert mem_map.footprint.struct_pages == 0
    mem_map.add(0, 1)
    assert mem_map.valid == (Range(0, 1),)


def test_a_large_leaf_has_many_neighbours() -> None:
    """2 MiB hold 65536 struct pages of 32 bytes, those of 256 MiB."""
    mem_map = small(Range(0x8000, 0x8001), Range(0x1FFFF, 0x20000), leaf=2 * MIB)
    assert mem_map.valid == (Range(0, 0x20000),)
    assert both_tests(mem_map, 0)
    assert mem_map.footprint.lowmem == 4 * MIB
    four = small(Range(0x8000, 0x8001), Range(0x1FFFF, 0x20000), leaf=4 * MIB, with_pae=False)
    assert four.valid == (Range(0, 0x20000),)
    assert four.footprint == Footprint(4 * MIB, 4 * MIB, 4 * MIB, 0, 0, 4)


@pytest.mark.parametrize(("leaf", "whole"), [(4 * KIB, False), (2 * MIB, True)])
def test_blocks_of_max_order_are_whole_from_32_kib_on(leaf: int, whole: bool) -> None:
    """Whitcroft's constraint: 1024 struct pages, 32 KiB, contiguous and present; RAM ends within a block here."""
    mem_map = small(Range(0, 0x2010), Range(0x8000, 0x8400), leaf=leaf)
    assert mem_map.pfn_valid(0x200F)
    assert mem_map.pfn_valid(0x23FF) is whole
    if whole:
        assert mem_map.read(mem_map.pfn_to_page(0x23FF)) == 0
    else:
        with pytest.raises(Unmapped):
            mem_map.read(mem_map.pfn_to_page(0x23FF))


def test_a_struct_page_that_straddles_needs_both_leaves() -> None:
    """40 bytes: pfn 102 lies at 4080 to 4119, on the first page and the second."""
    first = small(Range(0, 102), Range(300, 301), size=40)
    assert not both_tests(first, 102)
    assert both_tests(first, 101)
    both = small(Range(0, 103), Range(400, 401), size=40)
    assert both_tests(both, 102)
    # The next straddler is pfn 204, at 8160 to 8199; the third page is not there.
    assert both.valid[0] == Range(0, 204)
    second = small(Range(103, 104), Range(400, 401), size=40)
    assert not both_tests(second, 102)
    assert both_tests(second, 103)
    assert second.valid[0] == Range(103, 204)


def test_one_byte_on_another_leaf_counts() -> None:
    """33 bytes: 993 of them end one byte into the ninth page."""
    assert 993 * 33 == 8 * 4096 + 1
    mem_map = small(Range(0, 992), Range(2000, 2001), size=33)
    assert both_tests(mem_map, 991)
    assert not both_tests(mem_map, 992)


def test_a_block_that_straddles_is_not_whole_even_in_large_leaves() -> None:
    """40 bytes: 2 MiB end within pfn 52428, and so within the block of 1024 that begins at 52224."""
    mem_map = small(Range(0, 52300), size=40, leaf=2 * MIB)
    assert 52224 % 1024 == 0
    assert both_tests(mem_map, 52299)
    mem_map.read(mem_map.pfn_to_page(52427), 36)
    with pytest.raises(Unmapped):
        mem_map.read(mem_map.pfn_to_page(52429), 0)


def test_costs_of_pfn_valid_by_hand() -> None:
    """max_pfn, then an entry of each of the three levels, or one byte.

    The image, with max_pfn and the first table, is in the first large page of lowmem; the others are in its last.
    """
    small_leaves = small(Range(0, 0x8000))
    assert small_leaves.cost("pfn_valid", 0x123) == Cost(4, 2, 2)
    assert small_leaves.cost("pfn_valid_by_fault", 0x123) == Cost(2, 2, 1 + 2)
    assert small_leaves.cost("read", START) == Cost(1, 1, 2)
    large_leaves = small(Range(0, 0x8000), leaf=2 * MIB)
    # The page directory does not fit behind 2 MiB leaves' frames: it lies below them, in another large page.
    assert large_leaves.cost("pfn_valid", 0x123) == Cost(3, 2, 2)
    assert large_leaves.cost("pfn_valid_by_fault", 0x123) == Cost(2, 2, 1 + 1)
    assert large_leaves.cost("read", START) == Cost(1, 1, 1)
    non_pae = small(Range(0, 0x8000), with_pae=False, leaf=4 * MIB)
    # One level, in the image.
    assert non_pae.cost("pfn_valid", 0x123) == Cost(2, 1, 1)


def test_costs_of_an_invalid_pfn() -> None:
    mem_map = small(Range(0, 0x1), Range(0x1FFFF, 0x20000))
    assert mem_map.cost("pfn_valid", 0x20000) == Cost(1, 1, 1)
    assert mem_map.cost("pfn_valid_by_fault", 0x20000) == Cost(1, 1, 1)
    # No entry in the page table; a missing page costs a fault as well, as on ia64.
    assert mem_map.cost("pfn_valid", 0x80) == Cost(4, 2, 2)
    assert mem_map.cost("pfn_valid_by_fault", 0x80) == Cost(1, 1, 1, 1)
    # No entry in the directory.
    sparse = small(Range(0, 1), Range(0x1FFFF, 0x20000), size=2048)
    assert sparse.cost("pfn_valid", 0x8000) == Cost(3, 2, 2)


def test_costs_of_a_straddler() -> None:
    mem_map = small(Range(0, 300), size=40)
    assert mem_map.cost("pfn_valid", 101).references == 4
    assert mem_map.cost("pfn_valid", 102).references == 7
    assert mem_map.cost("pfn_valid_by_fault", 101).references == 2
    assert mem_map.cost("pfn_valid_by_fault", 102) == Cost(3, 3, 1 + 2 + 2)
    large = small(Range(0, 300), size=40, leaf=2 * MIB)
    # Within a large leaf software looks once; the probe goes by pages of 4 KiB, as ia64's.
    assert large.cost("pfn_valid", 102).references == 3
    assert large.cost("pfn_valid_by_fault", 102) == Cost(3, 2, 2)


def test_ranges_are_added_while_the_kernel_runs() -> None:
    mem_map = small(Range(0, 0x80))
    mem_map.write(START, 28, 7)
    with pytest.raises(Unmapped):
        mem_map.write(START + 0x100 * 32, 28, 9)
    mem_map.add(0x40, 0x180)
    mem_map.write(START + 0x100 * 32, 28, 9)
    assert (mem_map.read(START, 28), mem_map.read(START + 0x100 * 32, 28)) == (7, 9)
    assert mem_map.valid == (Range(0, 0x180),)
    assert mem_map.footprint.struct_pages == 3 * 4096


def test_adding_twice_takes_nothing_more() -> None:
    mem_map = small(Range(0, 0x100), Range(0x300, 0x400))
    before = mem_map.footprint
    mem_map.add(0x10, 0x20)
    mem_map.add(0x300, 0x400)
    assert mem_map.footprint == before
    mem_map.add(0, 0x400)
    assert mem_map.footprint.struct_pages == before.struct_pages + 4 * 4096


def test_the_window_has_an_end() -> None:
    mem_map = small(pages=0x1000)
    mem_map.add(0xFFF, 0x1000)
    for start, end in ((0xFFF, 0x1001), (-1, 5), (5, 5), (6, 5)):
        with pytest.raises(UsageError, match="are no part of the window") as caught:
            mem_map.add(start, end)
    assert caught.value.hint == "its virtual space has room for pfns below 0x1000"
    assert mem_map.window == Range(START, START + 2 * MIB)
    assert small(pages=0x10001).window == Range(START, START + 4 * MIB)
    assert small(pages=0x10000).window == Range(START, START + 2 * MIB)


def test_memory_for_the_map_may_run_out() -> None:
    """3 frames of backing; two are taken, two more cannot be, one can."""
    mem_map = VirtualMap(kernel_space(RAM), 32, START, 0x20000, 4096, [Range(0x200, 0x203)])
    mem_map.add(0, 0x100)
    with pytest.raises(UsageError, match="no memory for 2 pages of mem_map in leaves of 4 KiB"):
        mem_map.add(0x100, 0x200)
    assert mem_map.valid == (Range(0, 0x100),)
    assert mem_map.footprint.struct_pages == 2 * 4096


def test_backing_is_taken_in_order_and_in_pieces() -> None:
    """Two frames at 0x300, then five at 0x200 from the top down: seven leaves across three runs."""
    zones = [Range(0x300, 0x302), Range(0x200, 0x205)]
    mem_map = VirtualMap(kernel_space(RAM), 32, START, 0x20000, 4096, zones)
    mem_map.add(0, 7 * 128)
    space = mem_map.space
    leaves = list(walk(space.memory.read, space.tables.root, space.form))
    assert [(leaf.virtual, leaf.physical >> 12) for leaf in leaves] == [
        (START + number * 4096, frame)
        for number, frame in enumerate([0x300, 0x301, 0x200, 0x201, 0x202, 0x203, 0x204])
    ]
    assert all(leaf.writable and not leaf.user and not leaf.executable for leaf in leaves)


def test_a_run_of_leaves_fills_one_page_table_after_the_other() -> None:
    """256 pages, the last 128 under one directory entry of 512 and the first 128 under the next."""
    mem_map = small(Range(0x180, 0x280), size=4096)
    space = mem_map.space
    leaves = list(walk(space.memory.read, space.tables.root, space.form, START))
    assert [leaf.virtual for leaf in leaves] == [START + pfn * 4096 for pfn in range(0x180, 0x280)]
    physical = [leaf.physical for leaf in leaves]
    assert physical == list(range(physical[0], physical[0] + 256 * 4096, 4096))
    assert len({leaf.table for leaf in leaves}) == 2
    # PAE's directory is the kernel's anyway; the two page tables are the map's.
    assert mem_map.footprint.page_tables == 2 * 4096
    assert {leaf.entry & 0xFFF for leaf in leaves} == {0x163}
    assert {leaf.entry >> 63 for leaf in leaves} == {1}


def test_without_nx_leaves_have_no_such_bit() -> None:
    mem_map = small(Range(0, 1), with_pae=False)
    space = mem_map.space
    (leaf,) = walk(space.memory.read, space.tables.root, space.form)
    assert leaf.entry & 0xFFF == 0x163
    assert leaf.executable


def test_highmem_and_lowmem_are_told_apart() -> None:
    space = kernel_space(Range(0, 0x40000), max_low_pfn=0x8000)
    mem_map = VirtualMap(space, 32, START, 0x40000, 4096, [Range(0x3FFFE, 0x40000), Range(0, 0x8000)])
    mem_map.add(0, 0x180)
    assert mem_map.footprint == Footprint(
        struct_pages=3 * 4096, window=8 * MIB, lowmem=2 * 4096, highmem=2 * 4096, page_tables=4096, static=4
    )


def test_the_window_lies_between_lowmem_and_vmalloc() -> None:
    """One GiB: RAM ends below 1 GiB, and 8 MiB of struct pages end lowmem 8 MiB below MAXMEM."""
    prediction = Prediction(machine.configuration("6.1", memory=GIB))
    without = prediction.layout.max_low_pfn
    assert without is not None
    found = window(prediction)
    assert (found.pages, found.size) == (0x40000, 8 * MIB)
    assert found.max_low_pfn == without - 0x800
    low_end = 0xC0000000 + found.max_low_pfn * 4096
    assert low_end <= found.start < low_end + 2 * MIB
    assert found.start % (2 * MIB) == 0


def test_a_small_machine_has_room_above_its_ram() -> None:
    """Whitcroft's loss is where MAXMEM binds, and nowhere else."""
    prediction = Prediction(machine.configuration("6.1", memory=512 * MIB))
    found = window(prediction)
    assert found.max_low_pfn == prediction.layout.max_low_pfn == 0x1FFE0
    assert (found.start, found.size) == (0xE0000000, 4 * MIB)


def test_the_window_is_whole_directory_entries() -> None:
    """40 bytes for 0x20000 pfns are 5 MiB: three entries of PAE, two without."""
    for pae, size in ((True, 6 * MIB), (False, 8 * MIB)):
        configuration = machine.configuration("6.1", memory=512 * MIB, pae=pae, page_struct_size=40)
        assert window(Prediction(configuration)).size == size


def test_the_window_has_room_for_whole_blocks() -> None:
    """RAM ends at pfn 0x20180; blocks have 0x400 pages, in 2.4 0x200."""
    e820 = (E820Entry(0, 0x9F000, 1), E820Entry(MIB, 0x20180000 - MIB, 1))
    for era, pages in (("6.1", 0x20400), ("2.4", 0x20200)):
        configuration = machine.configuration(era, e820=e820)
        assert window(Prediction(configuration)).pages == pages
        assert virtual_map(configuration).pages == pages


def test_64_gib_need_an_eighth_of_virtual_space() -> None:
    """Lameter's 512 MB; Whitcroft: the loss of zone NORMAL is the same as FLATMEM's."""
    configuration = machine.configuration("6.1", memory=64 * GIB)
    found = window(Prediction(configuration))
    assert found.size == 512 * MIB == (4 * GIB) // 8
    flat = flat_map(configuration)
    lowmem = Prediction(configuration).layout.max_low_pfn
    assert lowmem is not None
    assert found.max_low_pfn * 4096 == lowmem * 4096 - flat.footprint.lowmem


def test_virtual_space_may_not_suffice() -> None:
    """1 GiB of struct pages is more than lowmem with a window of 1 GiB for kernel space."""
    with pytest.raises(
        UsageError, match=r"a window of 1024 MiB .* leaves nothing of 8.. MiB of lowmem"
    ) as caught:
        virtual_map(machine.configuration("6.1", memory=64 * GIB, page_struct_size=64))
    assert "another split" in caught.value.hint
    virtual_map(machine.configuration("6.1", memory=64 * GIB, page_struct_size=64, page_offset=0x80000000))


def test_lowmem_that_ends_below_the_image_boots_nothing() -> None:
    with pytest.raises(UsageError, match="image"):
        virtual_map(machine.configuration("6.1", memory=64 * GIB, page_struct_size=55))


def test_leaves_and_backing_are_checked() -> None:
    configuration = machine.configuration("6.1", memory=512 * MIB)
    with pytest.raises(UsageError, match="PAE paging has no leaves of 4194304 bytes") as caught:
        virtual_map(configuration, leaf=4 * MIB)
    assert caught.value.hint == "they are of 4 KiB or 2048 KiB"
    with pytest.raises(UsageError, match="no memory is named 'swap'") as caught:
        virtual_map(configuration, backing="swap")
    assert caught.value.hint == "there are highmem and lowmem"


def test_defaults_are_large_leaves_in_highmem() -> None:
    made = virtual_map(machine.configuration("6.1", memory=2 * GIB))
    assert made.leaf == 2 * MIB
    assert made.footprint == Footprint(16 * MIB, 16 * MIB, 0, 16 * MIB, 0, 4)
    assert virtual_map(machine.configuration("6.1", pae=False, memory=2 * GIB)).leaf == 4 * MIB
    assert (
        virtual_map(machine.configuration("6.1", memory=2 * GIB, sparsemem=True)).footprint == made.footprint
    )


def test_lowmem_can_be_asked_for() -> None:
    made = virtual_map(machine.configuration("6.1", memory=2 * GIB), backing="lowmem")
    assert made.footprint == Footprint(16 * MIB, 16 * MIB, 16 * MIB, 0, 0, 4)


def test_lowmem_helps_out_where_highmem_is_short() -> None:
    """There is no highmem in 512 MiB."""
    made = virtual_map(machine.configuration("6.1", memory=512 * MIB), leaf=4096)
    # 0x1ffe0 pfns but [0x9f, 0x100): 1023.75 pages of struct page, of which none is wholly a hole; two page tables.
    assert made.footprint == Footprint(4 * MIB, 4 * MIB, 4 * MIB + 8192, 0, 8192, 4)


@pytest.mark.parametrize("memory", [512 * MIB, GIB, 4 * GIB, 64 * GIB])
@pytest.mark.parametrize("kind", [VIRTUAL, VIRTUAL_LARGE, VIRTUAL_LOWMEM, VIRTUAL_LARGE_LOWMEM])
@pytest.mark.parametrize("pae", [True, False])
def test_what_is_built_costs_what_the_budget_says(memory: int, kind: Kind, pae: bool) -> None:
    """The budget counts ranges, the map its leaves; neither asks the other."""
    configuration = machine.configuration("6.1", memory=memory, pae=pae)
    bill = budget(configuration, kind)
    large = (2 if pae else 4) * MIB
    leaf, backing = large if kind.large else 4096, "lowmem" if kind.lowmem_backed else "highmem"
    if not bill.boots:
        with pytest.raises(UsageError, match=r"no (memory for|room for)"):
            virtual_map(configuration, leaf=leaf, backing=backing)
        return
    made = virtual_map(configuration, leaf=leaf, backing=backing)
    footprint = made.footprint
    assert footprint.window == bill.window
    assert footprint.struct_pages == bill.backing
    assert footprint.page_tables == bill.page_tables
    assert (footprint.lowmem, footprint.highmem) == (bill.from_lowmem, bill.from_highmem)
    assert made.space.lowmem.end * 4096 == bill.lowmem


def test_a_hole_is_virtual_space_without_memory() -> None:
    """FACTS F: 2 GiB of RAM at 0 and at 32 GiB: 272 MiB of window, 32 MiB of memory."""
    e820 = (E820Entry(0, 0x9F000, 1), E820Entry(MIB, 2 * GIB - MIB, 1), E820Entry(32 * GIB, 2 * GIB, 1))
    footprint = virtual_map(machine.configuration("6.1", e820=e820)).footprint
    assert (footprint.window, footprint.struct_pages, footprint.highmem) == (272 * MIB, 32 * MIB, 32 * MIB)


def test_a_window_leaves_a_page_at_least() -> None:
    """64 GiB take 512 MiB; of 0x3f5fe000 bytes vmalloc= and its hole of 8 MiB leave as much, or a page more."""
    for kib, left in ((505844, 1), (505848, 0)):
        prediction = Prediction(
            machine.configuration(e820=(E820Entry(0, 64 << 30, 1),), command_line=f"vmalloc={kib}K")
        )
        if left:
            assert window(prediction).max_low_pfn == left
        else:
            with pytest.raises(UsageError, match="leaves nothing of 512 MiB of lowmem"):
                window(prediction)

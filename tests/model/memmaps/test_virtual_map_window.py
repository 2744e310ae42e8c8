"""The virtual mem_map of a whole machine: where its window lies, what that takes of lowmem, and what does not fit."""

from __future__ import annotations

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import machine
from kvmtools.model.budget import VIRTUAL, VIRTUAL_LARGE, VIRTUAL_LARGE_LOWMEM, VIRTUAL_LOWMEM, Kind, budget
from kvmtools.model.memmaps.conversions import Footprint
from kvmtools.model.memmaps.flat_map import flat_map
from kvmtools.model.memmaps.virtual_map import virtual_map, window
from kvmtools.model.prediction import Prediction
from kvmtools.records import E820Entry

MIB, GIB = 1 << 20, 1 << 30


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

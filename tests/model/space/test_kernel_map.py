"""The kernel half of the page tables, region by region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.errors import UsageError
from kvmtools.model import machine
from kvmtools.model.prediction import Prediction
from kvmtools.model.space.kernel_map import large_leaf_fault
from kvmtools.records import Configuration, Expectation, Image, Leaf

MIB, GIB = 1 << 20, 1 << 30
Configure = Callable[..., Configuration]
Row = tuple[int, int, str, str, bool | None, bool | None]

IMAGE = [
    (0xC1000000, 0xC1400000, "kernel text", "all", False, True),
    (0xC1400000, 0xC1580000, "kernel rodata", "all", False, False),
    (0xC1580000, 0xC15C0000, "kernel data", "all", True, False),
    (0xC15C0000, 0xC1650000, "kernel init memory", "all", None, False),
    (0xC1650000, 0xC1660000, "kernel bss", "all", True, False),
    (0xC1660000, 0xC1661000, "IDT", "all", False, False),
    (0xC1661000, 0xC16F0000, "kernel bss", "all", True, False),
    (0xC16F0000, 0xC1720000, "kernel brk", "all", None, False),
]
LOW = [
    (0xC0000000, 0xC00A0000, "low memory", "all", None, None),
    (0xC00A0000, 0xC0100000, "BIOS area", "all", True, None),
    (0xC0100000, 0xC1000000, "direct map", "all", None, False),
]


def rows(configuration: Configuration) -> list[Row]:
    return [
        (e.start, e.end, e.name, e.presence, e.writable, e.executable)
        for e in Prediction(configuration).expectations
    ]


def region(configuration: Configuration, name: str) -> Expectation:
    (found,) = [e for e in Prediction(configuration).expectations if e.name == name]
    return found


def test_a_pae_kernel_with_nx(configure: Configure) -> None:
    assert rows(configure()) == [
        *LOW,
        *IMAGE,
        (0xC1720000, 0xF75FE000, "direct map", "all", None, False),
        (0xF75FE000, 0xF7DFE000, "gap below vmalloc", "none", None, None),
        (0xF7DFE000, 0xFF5FE000, "vmalloc area", "some", None, None),
        (0xFF5FE000, 0xFF600000, "guard below pkmap", "none", None, None),
        (0xFF600000, 0xFF800000, "pkmap", "some", True, False),
        (0xFF800000, 0xFFA00000, "LDT remap", "none", None, None),
        (0xFFA00000, 0xFFA01000, "CPU entry area: IDT", "all", False, False),
        (0xFFA01000, 0xFFA02000, "CPU entry area 0: GDT", "all", True, False),
        (0xFFA02000, 0xFFA03000, "CPU entry area 0: guard", "none", None, None),
        (0xFFA03000, 0xFFA04000, "CPU entry area 0: entry stack", "all", True, False),
        (0xFFA04000, 0xFFA05000, "CPU entry area 0: guard", "none", None, None),
        (0xFFA05000, 0xFFA06000, "CPU entry area 0: double fault stack", "all", True, False),
        (0xFFA06000, 0xFFA0B000, "CPU entry area 0: TSS", "all", True, False),
        (0xFFA0B000, 0xFFA2C000, "CPU entry area 0: debug store", "some", True, False),
        (0xFFA2C000, 0xFFBFE000, "gap below fixmap", "none", None, None),
        (0xFFBFE000, 0xFFFEB000, "boot-time fixmap", "some", None, False),
        (0xFFFEB000, 0xFFFFF000, "fixmap", "some", None, False),
        (0xFFFFF000, 0x100000000, "top of memory", "none", None, None),
    ]


def test_without_nx_all_that_is_mapped_is_executable(configure: Configure) -> None:
    for configuration in (configure(nx=False), configure(pae=False)):
        for expectation in Prediction(configuration).expectations:
            assert expectation.executable is (None if expectation.presence == "none" else True)


def test_the_direct_map_is_linear(configure: Configure) -> None:
    for expectation in Prediction(configure()).expectations:
        linear = expectation.start < 0xF75FE000
        assert expectation.physical == (expectation.start - 0xC0000000 if linear else None)


def test_page_table_isolation_maps_an_ldt(configure: Configure) -> None:
    ldt = region(configure(pti=True), "LDT remap")
    assert (ldt.presence, ldt.writable, ldt.executable) == ("some", False, False)


def test_every_cpu_has_an_area_and_only_the_first_must_exist(configure: Configure) -> None:
    found = [e for e in Prediction(configure(nr_cpus=3)).expectations if e.name.startswith("CPU entry area")]
    assert [e.presence for e in found] == [
        "all",
        *("all", "none", "all", "none", "all", "all", "some"),
        *("some", "none", "some", "none", "some", "some", "some") * 2,
    ]
    assert found[-1].end == found[0].start + (1 + 3 * 43) * 4096


def test_an_entry_area_may_have_a_tss_of_one_page(configure: Configure) -> None:
    """GDT, two guards, two stacks, and 33 pages of debug store: 38 pages without the TSS."""
    tss = region(configure(cpu_entry_area_size=39 * 4096), "CPU entry area 0: TSS")
    assert (tss.start, tss.end) == (0xFFA06000, 0xFFA07000)


def test_an_entry_area_of_another_shape_is_refused(configure: Configure) -> None:
    with pytest.raises(UsageError, match="no room for a TSS"):
        _ = Prediction(configure(cpu_entry_area_size=38 * 4096)).expectations


def above_vmalloc(era: str, highmem: bool) -> list[tuple[int, int, str, str]]:
    """Of a kernel that was asked to reserve the top 8 MiB."""
    found = rows(machine.configuration(era, pae=highmem, highmem=highmem, command_line="reservetop=8M"))
    vmalloc = [row[2] for row in found].index("vmalloc area")
    return [row[:4] for row in found[vmalloc + 1 :] if not row[2].startswith("CPU entry area")]


def test_old_kernels_have_their_own_areas_above_vmalloc() -> None:
    """2.4 knows no reservetop= and uses the fixmap's slot 0; its pkmap stays where PKMAP_BASE says."""
    assert above_vmalloc("2.4", True) == [
        (0xFDFFE000, 0xFE000000, "guard below pkmap", "none"),
        (0xFE000000, 0xFE200000, "pkmap", "some"),
        (0xFE200000, 0xFFFD9000, "unused rest of pkmap", "none"),
        (0xFFFD9000, 0xFFFFF000, "fixmap", "some"),
        (0xFFFFF000, 1 << 32, "top of memory", "none"),
    ]
    assert above_vmalloc("2.4", False) == [
        (0xFFFF3000, 0xFFFF5000, "guard above vmalloc", "none"),
        (0xFFFF5000, 0xFFFFF000, "fixmap", "some"),
        (0xFFFFF000, 1 << 32, "top of memory", "none"),
    ]
    assert above_vmalloc("2.6.32", True) == [
        (0xFF1FE000, 0xFF200000, "guard below pkmap", "none"),
        (0xFF200000, 0xFF400000, "pkmap", "some"),
        (0xFF400000, 0xFF5FE000, "gap below fixmap", "none"),
        (0xFF5FE000, 0xFF76B000, "boot-time fixmap", "some"),
        (0xFF76B000, 0xFF7FF000, "fixmap", "some"),
        (0xFF7FF000, 1 << 32, "top of memory", "some"),
    ]


def test_gaps_of_a_kernel_without_highmem() -> None:
    """Nothing is between vmalloc and the LDT, and it touches the CPU entry area."""
    assert [name for *_, name, _ in above_vmalloc("6.1", False)] == [
        "guard above vmalloc",
        "LDT remap",
        "gap below fixmap",
        "boot-time fixmap",
        "fixmap",
        "top of memory",
    ]


def test_holes_in_lowmem_are_unmapped(configure: Configure) -> None:
    """Above the reach of the boot tables, that is."""
    found = rows(configure(command_line="memmap=1M$256M"))
    assert (0xC1720000, 0xD0000000, "direct map", "all", None, False) in found
    assert (0xD0000000, 0xD0100000, "hole in lowmem", "none", None, None) in found
    assert (0xD0100000, 0xF75FE000, "direct map", "all", None, False) in found


@pytest.mark.parametrize(("pae", "end"), [(True, 0xC1A00000), (False, 0xC1C00000)])
def test_the_boot_tables_still_map_holes_they_reach(configure: Configure, pae: bool, end: int) -> None:
    """They reach past the image's end at 23.125 MiB by room for tables: 516 pages with PAE, 256 without."""
    found = rows(configure(pae=pae, command_line="memmap=32M$24M"))
    assert (0xC1800000, end, "boot map remnant", "all", True, True) in found
    assert (end, 0xC3800000, "hole in lowmem", "none", None, None) in found


@pytest.mark.parametrize(
    ("image_end", "end"),
    [
        # 516 pages of tables, 512 and one for each GiB: 0xc19fe000, and 0xc1a01000.
        (0xC17FA000, 0xC1A00000),
        (0xC17FD000, 0xC1C00000),
    ],
)
def test_the_boot_tables_have_room_for_themselves(configure: Configure, image_end: int, end: int) -> None:
    known = configure(command_line="memmap=32M$25M")
    moved = replace(known, image=Image(0, known.image.sections | {"_end": image_end}))
    assert (0xC1900000, end, "boot map remnant", "all", True, True) in rows(moved)


def test_a_hole_at_the_end_of_lowmem(configure: Configure) -> None:
    """RAM goes on in highmem; lowmem ends in a hole from 870 MiB."""
    found = rows(configure(command_line="memmap=32M$870M"))
    hole = found.index((0xF6600000, 0xF75FE000, "hole in lowmem", "none", None, None))
    assert found[hole + 1] == (0xF75FE000, 0xF7DFE000, "gap below vmalloc", "none", None, None)


def test_ram_that_begins_and_ends_with_the_image(configure: Configure) -> None:
    """Holes from 8 to 16 MiB and of 1 MiB behind _end, 23.125 MiB: the image is all of that range."""
    found = rows(configure(command_line="memmap=8M$8M memmap=1M$0x1720000"))
    first = found.index(IMAGE[0])
    assert found[first : first + len(IMAGE)] == IMAGE
    assert found[first - 1][1:3] == (0xC1000000, "boot map remnant")
    assert found[first + len(IMAGE)][:3] == (0xC1720000, 0xC1820000, "boot map remnant")


def test_rodata_off(configure: Configure) -> None:
    """mark_rodata_ro() does not run: text stays writable, and nothing past it is made NX."""
    found = {row[2]: row[4:] for row in rows(configure(command_line="rodata=off"))}
    assert found["kernel text"] == (True, True)
    assert found["kernel rodata"] == (True, None)
    assert found["kernel data"] == (True, None)


def test_reservetop_leaves_an_alias_behind(configure: Configure) -> None:
    """Seen without PAE: parse_reservetop() hooks early_ioremap's table a second time, the first stays."""
    moved = region(configure(pae=False, command_line="reservetop=8M"), "top of memory")
    assert (moved.start, moved.end, moved.presence) == (0xFF7FF000, 1 << 32, "some")


def test_debug_pagealloc_unmaps_free_pages(configure: Configure) -> None:
    debugging = configure(debug_pagealloc=True)
    assert region(debugging, "kernel text").presence == "some"
    assert Prediction(debugging).unmaps_free_pages
    assert not Prediction(configure()).unmaps_free_pages


def test_text_that_begins_inside_a_large_page(configure: Configure) -> None:
    """CONFIG_PHYSICAL_ALIGN may be as small as 8 KiB; what shares the large page was executable once."""
    found = rows(configure(image_at=16 * MIB + 0x4000))
    assert (0xC0100000, 0xC1000000, "direct map", "all", None, False) in found
    assert (0xC1000000, 0xC1004000, "before the image", "all", None, None) in found
    assert found[4][:3] == (0xC1004000, 0xC1404000, "kernel text")


def test_bss_is_open_if_the_idt_is_not_known(configure: Configure) -> None:
    known = configure()
    sections = {name: at for name, at in known.image.sections.items() if name != "idt_table"}
    found = rows(replace(known, image=Image(0, sections)))
    assert (0xC1650000, 0xC16F0000, "kernel bss", "all", None, False) in found


def test_an_image_without_boundaries_is_refused(configure: Configure) -> None:
    known = configure()
    sections = {name: at for name, at in known.image.sections.items() if name != "_etext"}
    with pytest.raises(UsageError, match="_etext"):
        _ = Prediction(replace(known, image=Image(0, sections))).expectations


@given(
    pae=st.booleans(),
    memory=st.integers(48, 8192).map(lambda mib: mib * MIB),
    image_at=st.integers(8, 16).map(lambda n: n * 2 * MIB),
    nr_cpus=st.integers(1, 8),
    highmem=st.booleans(),
    holes=st.lists(st.tuples(st.integers(1, 9000), st.integers(0, 200_000)), max_size=3),
)
def test_regions_tile_the_kernel_half(
    configure: Configure,
    pae: bool,
    memory: int,
    image_at: int,
    nr_cpus: int,
    highmem: bool,
    holes: list[tuple[int, int]],
) -> None:
    configuration = configure(
        pae=pae,
        memory=memory,
        image_at=image_at,
        nr_cpus=nr_cpus,
        highmem=highmem,
        zone_names=("NORMAL", "HIGHMEM", "MOVABLE") if highmem else ("NORMAL", "MOVABLE"),
        command_line=" ".join(f"memmap={size}K${start}K" for size, start in holes),
    )
    prediction = Prediction(configuration)
    at = 0xC0000000
    for expectation in prediction.expectations:
        assert expectation.start == at
        assert expectation.end > at
        at = expectation.end
    assert at == 1 << 32
    lowmem_end = (prediction.layout.max_low_pfn or 0) * 4096
    mapped = [e for e in prediction.expectations if e.physical is not None and e.presence == "all"]
    for r in prediction.ram.within(256, lowmem_end // 4096):
        for pfn in (r.start, r.end - 1):
            assert any(e.start <= 0xC0000000 + pfn * 4096 < e.end for e in mapped)


def leaf(virtual: int, physical: int, size: int) -> Leaf:
    return Leaf(virtual, physical, size, physical | 0x1E3, 2, 0x1000, 0, True, False, False)


@pytest.mark.parametrize(
    ("virtual", "physical", "reason"),
    [
        (0xC0200000, 0x200000, ""),
        (0xF7200000, 0x37200000, ""),
        (0xC0000000, 0, "first directory entry"),
        (0xF7400000, 0x37400000, "outside the direct map"),
        (0xC0200000, 0x201000, "not aligned"),
        (0xF7E00000, 0x80000000, ""),
        (0xF7C00000, 0x80000000, "outside the direct map"),
        (0xFF400000, 0x80000000, "outside the direct map"),
        (0xFF600000, 0x80000000, "outside the direct map"),
        (0xBFE00000, 0x80000000, "outside the direct map"),
        (0xD0000000, 0x10000000, "not all RAM"),
        (0xD0200000, 0x10200000, ""),
    ],
)
def test_where_a_large_page_may_be(configure: Configure, virtual: int, physical: int, reason: str) -> None:
    prediction = Prediction(configure(command_line="memmap=4K$256M"))
    fault = prediction.large_leaf_fault(leaf(virtual, physical, 2 * MIB))
    assert reason in fault
    assert bool(reason) == bool(fault)


def test_huge_vmalloc_reaches_both_ends_of_its_area(configure: Configure) -> None:
    """The model's own areas never begin and end with a large page: one that does."""
    prediction = Prediction(configure())
    layout = replace(prediction.layout, vmalloc_start=0xF8000000, vmalloc_end=0xFF400000)
    fault = {
        virtual: large_leaf_fault(
            prediction.configuration, layout, prediction.ram, leaf(virtual, 0x80000000, 2 * MIB)
        )
        for virtual in (0xF7E00000, 0xF8000000, 0xFF200000, 0xFF400000)
    }
    assert [bool(reason) for reason in fault.values()] == [True, False, False, True]


def test_large_pages_of_non_pae(configure: Configure) -> None:
    prediction = Prediction(configure(pae=False))
    assert prediction.large_leaf_fault(leaf(0xC0400000, 0x400000, 4 * MIB)) == ""
    assert "no size of a large page" in prediction.large_leaf_fault(leaf(0xC0400000, 0x400000, 2 * MIB))
    assert "PAE only" in prediction.large_leaf_fault(leaf(0xF8000000, 0x400000, 4 * MIB))


@pytest.mark.parametrize("changes", [{"pse": False}, {"command_line": "mem=nopentium"}])
def test_large_pages_can_be_off(configure: Configure, changes: dict[str, object]) -> None:
    prediction = Prediction(configure(**changes))
    assert "large pages are off" in prediction.large_leaf_fault(leaf(0xC0200000, 0x200000, 2 * MIB))

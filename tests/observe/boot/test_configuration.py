"""What recorded guests say of their build, their CPU and their boot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvmtools.errors import Absent
from kvmtools.model.machine import e820_of
from kvmtools.observe.boot.configuration import observe_configuration, observe_image, observe_marks
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import MARKS


def test_build_and_boot(recorded_guest: Any) -> None:
    said = observe_configuration(recorded_guest.kernel())
    assert said.pae == (recorded_guest.name == "pae")
    assert said.nr_cpus == 4, "CONFIG_NR_CPUS, not the two that run"
    assert said.zone_names == ("DMA", "NORMAL", "HIGHMEM", "MOVABLE")
    assert (said.highmem, said.sparsemem, said.max_order) == (True, False, 11)
    pti = "pti=on " if said.pae else ""
    assert said.command_line == f"console=ttyS0 {pti}tsc=reliable highmem=24M"
    assert (said.debug_pagealloc, said.nodes, said.max_numnodes) == (False, (), 1)
    assert said.end_of_permanent_fixed_addresses < said.end_of_fixed_addresses
    assert said.cpu_entry_area_size % 4096 == 0


def test_the_firmwares_map_is_that_of_a_pc_with_96_mib(recorded_guest: Any) -> None:
    """tests/live/test_machines.py holds the same against what the firmware itself says."""
    assert observe_configuration(recorded_guest.kernel()).e820 == e820_of(96 << 20)


@pytest.mark.parametrize("name", ["_debug_pagealloc_enabled_early", "_debug_pagealloc_enabled"])
@pytest.mark.parametrize("value", [0, 1])
def test_debug_pagealloc_is_a_variable_under_one_of_two_names(
    recorded_guest: Any, name: str, value: int
) -> None:
    """A variable of ours takes its place: no recorded kernel has it."""
    whole = recorded_guest.kernel()
    facts = whole.vmlinux.to_json()
    facts["answers"] |= {f"symbol {name}": facts["answers"]["symbol system_state"]}
    place = whole.address("system_state")
    recorded_guest.memory.patch(whole.physical(place), bytes([value]))
    kernel = replace(whole, vmlinux=Vmlinux.from_json(facts))
    assert observe_configuration(kernel).debug_pagealloc is bool(value)


def test_features_in_use(recorded_guest: Any) -> None:
    said = observe_configuration(recorded_guest.kernel())
    assert (said.pse, said.pge) == (True, True)
    assert (said.nx, said.pti) == (said.pae, said.pae), "the PAE guest was booted with pti=on"
    assert said.physical_bits == 36, "qemu-system-i386 offers no more, whatever -cpu says"


def test_without_feature_names_the_masks_tell_the_same(recorded_guest: Any) -> None:
    assert observe_configuration(recorded_guest.kernel("symbol x86_cap_flags")) == observe_configuration(
        recorded_guest.kernel()
    )


@pytest.mark.parametrize(("feature", "bit"), [("pse", 3), ("pge", 13)])
def test_a_feature_that_was_cleared_is_not_in_use(recorded_guest: Any, feature: str, bit: int) -> None:
    """Bits of CPUID leaf 1, EDX, which is the first word of ``x86_capability``."""
    kernel = recorded_guest.kernel()
    word = kernel.address("boot_cpu_data") + kernel.vmlinux.offset("struct cpuinfo_x86", "x86_capability")
    cleared = kernel.u32(word) & ~(1 << bit)
    recorded_guest.memory.patch(kernel.physical(word), cleared.to_bytes(4, "little"))
    assert getattr(observe_configuration(kernel), feature) is False


def test_the_image_is_where_the_slide_put_it(recorded_guest: Any) -> None:
    kernel = recorded_guest.kernel()
    image = observe_image(kernel)
    assert image.slide == kernel.slide
    assert image.sections["_stext"] == kernel.vmlinux.symbol("_stext") + kernel.slide
    order = ("_text", "_etext", "__start_rodata", "__end_rodata", "__bss_start", "__bss_stop", "_end")
    assert sorted(order, key=lambda name: image.sections[name]) == list(order)


def test_marks_are_the_members_and_enumerators_that_are_there(recorded_guest: Any) -> None:
    # 6.1 has kmap_local, but neither the page types of 6.12 nor the list of 7.2.
    assert set(MARKS) - observe_configuration(recorded_guest.kernel()).marks == {
        "PGTY_buddy",
        "zone.trylock_free_pages",
    }
    older = recorded_guest.kernel(
        "offset struct task_struct kmap_ctrl", "sizeof struct kmap_ctrl", "offset struct page page_type"
    )
    assert observe_marks(older.vmlinux) == observe_configuration(recorded_guest.kernel()).marks - {
        "task_struct.kmap_ctrl",
        "page.page_type",
    }


def test_a_mark_whose_companion_is_there_is_not_taken_for_missing(recorded_guest: Any) -> None:
    """Without it the kernel would be one of an earlier era, which it is not."""
    lesser = recorded_guest.kernel("offset struct task_struct kmap_ctrl")
    with pytest.raises(Absent, match=r"has no task_struct\.kmap_ctrl"):
        observe_marks(lesser.vmlinux)


def test_an_enumerator_is_a_mark_too(recorded_guest: Any) -> None:
    vmlinux = recorded_guest.kernel().vmlinux.to_json()
    vmlinux["answers"]["constant PGTY_buddy"] = 0xF0
    assert "PGTY_buddy" in observe_marks(Vmlinux.from_json(vmlinux))

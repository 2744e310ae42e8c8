"""What a processor refuses depends on its CR4, its EFER and how many address bits it has: translations say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import observe
from kvmtools.observe.paging.forms import LARGE
from kvmtools.observe.paging.translate import Translation, translate
from kvmtools.observe.processor import seen_by_processor
from kvmtools.observe.space.layout import kernel_walk
from kvmtools.records import Registers

NX, PAGING = 1 << 63, 1 << 31
EFER_NXE, CR4_PSE = 1 << 11, 1 << 4


@pytest.fixture
def registers(recorded_guest: Any) -> tuple[Registers, ...]:
    registers: tuple[Registers, ...] = recorded_guest.told.registers
    return registers


def way(kernel: Kernel, address: int, *registers: Registers) -> Translation:
    return translate(kernel.memory, kernel.root, address, seen_by_processor(kernel, registers).paging)


def leaf(kernel: Kernel, *, large: bool = False, having: int = 0) -> Any:
    """Some leaf of the kernel's, of 4 KiB or large, with all of these bits set."""
    walk = kernel_walk(kernel)
    fits = ((walk.level > 1) == large) & ((walk.entry & np.uint64(having)) == having)
    return walk.mapping(int(np.flatnonzero(fits)[0]))


def overwrite(kernel: Kernel, found: Any, entry: int) -> None:
    assert isinstance(kernel.memory, Snapshot)
    size = kernel.paging.entry_size
    kernel.memory.patch(found.table + found.index * size, entry.to_bytes(size, "little"))


def test_the_healthy_guest_is_mapped_as_before(recorded: Kernel, registers: tuple[Registers, ...]) -> None:
    for large in (False, True):
        found = leaf(recorded, large=large)
        seen = way(recorded, found.virtual, *registers)
        assert (seen.fault, seen.physical, seen.size) == (None, found.physical, found.size)


@pytest.mark.parametrize("recorded_guest", ["pae"], indirect=True)
def test_an_address_beyond_the_processors_bits_is_refused(
    recorded: Kernel, registers: tuple[Registers, ...]
) -> None:
    found = leaf(recorded)
    bits = recorded.member(recorded.address("boot_cpu_data"), "struct cpuinfo_x86", "x86_phys_bits")
    overwrite(recorded, found, found.entry | 1 << bits)
    assert f"reserved bits {1 << bits:#x}" in str(way(recorded, found.virtual, *registers).fault)
    overwrite(recorded, found, found.entry | 1 << bits - 1)
    assert way(recorded, found.virtual, *registers).fault is None


@pytest.mark.parametrize("recorded_guest", ["nopae"], indirect=True)
def test_pse_36_reaches_as_far_as_the_processor(
    recorded: Kernel, registers: tuple[Registers, ...], patch: Any
) -> None:
    found = leaf(recorded, large=True)
    place = recorded.address("boot_cpu_data") + recorded.vmlinux.offset("struct cpuinfo_x86", "x86_phys_bits")
    overwrite(recorded, found, found.entry | 1 << 17)  # address bit 36
    patch(place, bytes([36]))
    assert "reserved bits 0x20000" in str(way(recorded, found.virtual, *registers).fault)
    patch(place, bytes([40]))
    assert way(recorded, found.virtual, *registers).physical == found.physical + (1 << 36)


@pytest.mark.parametrize("recorded_guest", ["pae"], indirect=True)
def test_without_nxe_the_nx_bit_is_reserved(recorded: Kernel, registers: tuple[Registers, ...]) -> None:
    found = leaf(recorded, having=NX)
    first = registers[0]
    assert first.efer is not None
    without = replace(first, efer=first.efer & ~EFER_NXE)
    assert f"reserved bits {NX:#x}" in str(way(recorded, found.virtual, without).fault)
    assert way(recorded, found.virtual, replace(first, efer=None)).fault is None, "the kernel uses NX"


def test_without_pse_a_large_page_is_a_table(recorded: Kernel, registers: tuple[Registers, ...]) -> None:
    found = leaf(recorded, large=True)
    without = replace(registers[0], cr4=registers[0].cr4 & ~CR4_PSE)
    wide = recorded.paging.entry_size == 8
    if not wide:
        overwrite(recorded, found, found.entry & 0xFFF | recorded.root)  # a table that was captured
    seen = way(recorded, found.virtual, without)
    assert (seen.size == found.size) == wide, "PAE has its large pages without PSE"
    if not wide:
        assert [step.level for step in seen.steps] == [2, 1]
        assert seen.steps[0].entry & LARGE


def test_a_vcpu_that_does_not_page_says_nothing(recorded: Kernel, registers: tuple[Registers, ...]) -> None:
    waiting = replace(registers[0], cpu=7, cr0=0, cr4=0, efer=0)
    one = seen_by_processor(recorded, (waiting, *registers)).paging
    assert one == seen_by_processor(recorded, registers).paging
    found = leaf(recorded, large=True)
    assert way(recorded, found.virtual, waiting).size == found.size


def test_what_the_kernel_does_not_know_yet_refuses_nothing(
    recorded: Kernel, registers: tuple[Registers, ...], patch: Any
) -> None:
    place = recorded.vmlinux.offset("struct cpuinfo_x86", "x86_phys_bits")
    found = leaf(recorded)
    for nonsense in (0, 31, 53, 255):
        patch(recorded.address("boot_cpu_data") + place, bytes([nonsense]))
        assert way(recorded, found.virtual, *registers).fault is None


def test_an_observation_is_the_processors(recorded: Kernel, registers: tuple[Registers, ...]) -> None:
    without = tuple(replace(each, cr4=each.cr4 & ~CR4_PSE) for each in registers)
    kernel = observe(recorded, recorded.memory, without).kernel
    assert kernel.paging == seen_by_processor(recorded, without).paging
    assert bool(kernel.paging.level(2).large) == (recorded.paging.entry_size == 8)


@pytest.mark.parametrize(
    "name", ["symbol boot_cpu_data", "sizeof struct cpuinfo_x86 x86_phys_bits", "symbol __supported_pte_mask"]
)
def test_a_name_that_is_missing_refuses_nothing(
    recorded_guest: Any, registers: tuple[Registers, ...], name: str
) -> None:
    kernel = recorded_guest.kernel(name)
    found = leaf(kernel)
    assert way(kernel, found.virtual, replace(registers[0], efer=None)).fault is None

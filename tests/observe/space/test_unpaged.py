"""Where a CPU is whose paging is off: its EIP is a physical address."""

from __future__ import annotations

import pytest

from kvmtools.observe.kernel import Kernel
from kvmtools.observe.space.unpaged import unpaged_place
from kvmtools.records import Registers

PROTECTED = 1


@pytest.mark.parametrize(
    ("eip", "cr0", "place"),
    [
        (0xFFF0, 0x6000_0010, "real mode, not started"),
        (0xF_D09A, 0x6000_0011, "firmware, not started"),
        (0xC_0000, PROTECTED, "firmware, not started"),
        (0xB_FFFF, PROTECTED, "paging off, not started"),
        (0x10_0000, PROTECTED, "paging off, not started"),
        (0xFFFF_FFF0, PROTECTED, "firmware, not started"),
        (0xFFBF_FFFF, PROTECTED, "paging off, not started"),
    ],
)
def test_a_cpu_that_no_kernel_has_started(recorded: Kernel, eip: int, cr0: int, place: str) -> None:
    assert unpaged_place(recorded, Registers(1, eip, cr0, 0, 0, None)) == place


def test_a_cpu_in_the_kernels_image(recorded: Kernel) -> None:
    """The image lies at its virtual addresses less ``PAGE_OFFSET``."""
    first, end = (recorded.address(name) - recorded.page_offset for name in ("_stext", "_end"))
    for eip, place in (
        (first, "kernel image, paging not yet on"),
        (end - 1, "kernel image, paging not yet on"),
        (end + (64 << 20), "paging off, not started"),
    ):
        assert unpaged_place(recorded, Registers(0, eip, PROTECTED, 0, 0, None)) == place

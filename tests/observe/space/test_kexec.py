"""The images that kexec has loaded: none in the recorded guests, until their pointers are set."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.space.kexec import observe_control_pages


def test_no_image_is_loaded(recorded: Kernel) -> None:
    assert observe_control_pages(recorded) == ()


def test_each_image_has_a_control_page(recorded: Kernel, patch: Callable[[int, bytes], None]) -> None:
    member = recorded.vmlinux.offset("struct kimage", "control_code_page")
    somewhere = recorded.address("pkmap_count")
    for number, symbol in enumerate(("kexec_image", "kexec_crash_image")):
        place = somewhere + 4 * number
        patch(recorded.address(symbol), (place - member).to_bytes(4, "little"))
        patch(place, (0xC700_0000 + 32 * number).to_bytes(4, "little"))
    assert observe_control_pages(recorded) == (0xC700_0000, 0xC700_0020)


def test_an_image_that_lies_nowhere(recorded: Kernel, patch: Callable[[int, bytes], None]) -> None:
    patch(recorded.address("kexec_image"), b"\xff" * 4)
    with pytest.raises(MemoryFault):
        observe_control_pages(recorded)


def test_a_kernel_without_kexec(recorded_guest: object) -> None:
    kernel = recorded_guest.kernel("symbol kexec_image", "symbol kexec_crash_image")  # type: ignore[attr-defined]
    assert observe_control_pages(kernel) == ()

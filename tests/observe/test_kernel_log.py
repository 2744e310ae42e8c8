"""The whole log of recorded kernels, and logs that are damaged or small enough to be made by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kernel_log import _place, kernel_log, log_of

Patch = Callable[[int, bytes], None]


def ring(kernel: Kernel, member: str) -> int:
    """Address of a member of the log's ``struct printk_ringbuffer``."""
    return kernel.variable("prb") + kernel.vmlinux.offset("struct printk_ringbuffer", member)


def test_it_begins_and_ends_as_the_guest_did(recorded: Kernel, recorded_guest: Any) -> None:
    log = kernel_log(recorded)
    lines = log.splitlines()
    assert lines[0].startswith(f"[    0.000000] Linux version 6.1.192-kvmtools-{recorded_guest.name} ")
    assert any("kernel command line: " in line.lower() for line in lines)
    assert "kvmtools: ready" in log
    times = [float(line[1:13]) for line in lines]
    assert len(lines) > 100
    assert times[-1] > 0.5
    # The clock is set right now and then.
    assert sum(later < earlier for earlier, later in pairwise(times)) < 10
    assert log == recorded_guest.told.log


def test_a_record_that_is_being_written_is_left_out(recorded: Kernel, patch: Patch) -> None:
    vmlinux = recorded.vmlinux
    before = kernel_log(recorded).splitlines()
    last = recorded.word(ring(recorded, "desc_ring.head_id"))
    count = 1 << recorded.u32(ring(recorded, "desc_ring.count_bits"))
    row = (last & 0x3FFF_FFFF) % count
    descriptor = recorded.pointer(ring(recorded, "desc_ring.descs")) + row * vmlinux.sizeof("struct prb_desc")
    patch(
        descriptor + vmlinux.offset("struct prb_desc", "state_var"),
        (last & 0x3FFF_FFFF).to_bytes(4, "little"),
    )
    after = kernel_log(recorded).splitlines()
    assert after == before[: len(after)]
    assert 0 < len(before) - len(after) < 10


@pytest.mark.parametrize("member", ["desc_ring.count_bits", "text_data_ring.size_bits"])
def test_a_size_that_no_log_has(recorded: Kernel, patch: Patch, member: str) -> None:
    for bits in (31, 200, 0xFFFF_FFFF):
        patch(ring(recorded, member), bits.to_bytes(4, "little"))
        with pytest.raises(MemoryFault, match=f"{member} is {bits}, and no log has"):
            kernel_log(recorded)
    assert log_of(recorded) is None


def test_a_pointer_to_nowhere(recorded: Kernel, patch: Patch) -> None:
    patch(ring(recorded, "text_data_ring.data"), b"\0\0\0\xf0")
    with pytest.raises(MemoryFault):
        kernel_log(recorded)
    assert log_of(recorded) is None


def test_a_kernel_without_such_a_log(recorded_guest: Any) -> None:
    assert log_of(recorded_guest.kernel("sizeof struct printk_ringbuffer")) is None


@given(st.integers(0, 1 << 20), st.integers(1, 64))
def test_a_text_lies_in_one_piece(begin: int, length: int) -> None:
    """As ``data_alloc()`` places it: one that does not fit before the end of the ring begins at its start."""
    size = 256
    behind = begin + length
    if begin // size != (behind - 1) // size:
        behind = (begin // size + 1) * size + length
    place = _place(begin, behind, size)
    assert place + length <= size
    assert place in (0, begin % size)

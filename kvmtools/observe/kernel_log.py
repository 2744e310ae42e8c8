"""All that the kernel printed and still has: printk's ring buffer, as ``dmesg`` shows it.

Source: kernel/printk/printk_ringbuffer.h (``desc_ring``, ``data_ring``, ``struct prb_desc``, ``DESC_FLAGS_SHIFT``),
kernel/printk/printk_ringbuffer.c (``get_data``) and kernel/printk/printk.c (``print_time``) (6.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvmtools.errors import Absent, MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.per_cpu import read_virtual
from kvmtools.observe.structure import Structure

#: Larger rings were never set up by anybody; an overwritten exponent is not to make us read the guest's whole memory.
_LARGEST = 1 << 24
#: ``enum desc_state``: a record that its writer may still reopen, and one that is final.
_COMMITTED, _FINALIZED = 1, 2


@dataclass(frozen=True)
class Ring:
    """``struct printk_ringbuffer``, read as a whole."""

    text: bytes
    descriptors: NDArray[np.uint8]
    """Shape ``(records, sizeof(struct prb_desc))``."""
    infos: NDArray[np.uint8]
    """Shape ``(records, sizeof(struct printk_info))``."""
    first: int
    """The id of the oldest record."""
    last: int


def kernel_log(kernel: Kernel) -> str:
    """The lines of the log with their time, in Latin-1 so that no byte is lost; whoever prints it filters it.

    :raises Absent: if the kernel's log is none that we know: it is older than 5.10
    :raises MemoryFault: if the log cannot be read, or was overwritten
    """
    ring, vmlinux = read_log(kernel), kernel.vmlinux
    word = kernel.architecture.word
    state = _column(ring.descriptors, vmlinux.offset("struct prb_desc", "state_var"), word)
    begin = _column(ring.descriptors, vmlinux.offset("struct prb_desc", "text_blk_lpos.begin"), word)
    behind = _column(ring.descriptors, vmlinux.offset("struct prb_desc", "text_blk_lpos.next"), word)
    length = _column(ring.infos, vmlinux.offset("struct printk_info", "text_len"), np.dtype("<u2"))
    time = _column(
        ring.infos, vmlinux.offset("struct printk_info", "ts_nsec"), np.dtype(np.uint64).newbyteorder("<")
    )
    lines: list[str] = []
    for row, ident in _rows(ring):
        kind, told = int(state[row]) >> word.itemsize * 8 - 2, int(state[row]) & _id_mask(word)
        if kind not in (_COMMITTED, _FINALIZED) or told != ident or int(begin[row]) & 1:
            continue  # being written, written over, or without a text
        start = _place(int(begin[row]), int(behind[row]), len(ring.text)) + word.itemsize
        text = ring.text[start : start + int(length[row])].decode("latin-1")
        seconds, rest = divmod(int(time[row]), 1_000_000_000)
        lines += (f"[{seconds:5}.{rest // 1000:06}] {line}\n" for line in text.split("\n"))
    return "".join(lines)


def _rows(ring: Ring) -> Iterator[tuple[int, int]]:
    count = len(ring.descriptors)
    for ident in range(ring.first, ring.first + min(count, (ring.last - ring.first) % (1 << 30) + 1)):
        yield ident % count, ident % (1 << 30)


def _id_mask(word: np.dtype[Any]) -> int:
    return (1 << word.itemsize * 8 - 2) - 1


def _place(begin: int, behind: int, size: int) -> int:
    """Where a block of text lies; one that would go across the end of the ring lies at its beginning."""
    return 0 if begin // size != (behind - 1) // size else begin % size


def read_log(kernel: Kernel) -> Ring:
    """The log as it lies in memory, which is all that the guest need be held for; raises as :func:`kernel_log`."""
    vmlinux = kernel.vmlinux
    ring = Structure(kernel, "struct printk_ringbuffer", kernel.variable("prb"))
    count, size = _entries(ring, "desc_ring.count_bits"), _entries(ring, "text_data_ring.size_bits")
    mask = _id_mask(kernel.architecture.word)

    def rows(member: str, type_name: str) -> NDArray[np.uint8]:
        each = vmlinux.sizeof(type_name)
        data = read_virtual(kernel, ring.unsigned(member), count * each)
        return np.frombuffer(data, np.uint8).reshape(count, each)

    return Ring(
        text=read_virtual(kernel, ring.unsigned("text_data_ring.data"), size),
        descriptors=rows("desc_ring.descs", "struct prb_desc"),
        infos=rows("desc_ring.infos", "struct printk_info"),
        first=ring.unsigned("desc_ring.tail_id") & mask,
        last=ring.unsigned("desc_ring.head_id") & mask,
    )


def _entries(ring: Structure, member: str) -> int:
    bits = ring.unsigned(member)
    if 1 << min(bits, 64) > _LARGEST:
        raise MemoryFault(
            ring.at(member), f"{member} is {bits}, and no log has 2**{bits} bytes", space="virtual"
        )
    return 1 << bits


def _column(rows: NDArray[np.uint8], offset: int, dtype: np.dtype[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """A member of all records."""
    found: NDArray[np.unsignedinteger[Any]] = (
        rows[:, offset : offset + dtype.itemsize].copy().view(dtype).reshape(-1)
    )
    return found


def log_of(kernel: Kernel) -> str | None:
    """:func:`kernel_log`, or ``None`` if there is none that can be read."""
    try:
        return kernel_log(kernel)
    except (Absent, MemoryFault):
        return None

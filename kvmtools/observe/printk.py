"""Why a kernel panicked, as its log says: the end of printk's ring buffer.

It is read while the guest is held, and a kernel that panicked may have overwritten anything: so of the text and of the
descriptors only the latest are read, however large the log says that it is.

Source: kernel/printk/printk_ringbuffer.h (``desc_ring``, ``data_ring``, ``DATA_SIZE``), kernel/printk/printk.c
(``LOG_BUF_LEN_MAX``, ``PRB_AVGBITS``) (6.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from kvmtools.errors import Absent, MemoryFault, Unobserved
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.per_cpu import read_virtual
from kvmtools.observe.structure import Structure
from kvmtools.records import PANIC_WORDS

# Not the line with which panic() ends.
_PANIC = re.compile(rb"(?<!---\[ end )" + PANIC_WORDS + rb"([\x20-\x7e]*)")

#: Bytes of text that are read; what follows a panic in the log, the state of the CPUs, is some kilobytes.
_LATEST_TEXT = 1 << 20
#: As many descriptors as printk has for so much text: one for 32 bytes, ``PRB_AVGBITS``.
_LATEST_RECORDS = _LATEST_TEXT >> 5
#: ``LOG_BUF_LEN_MAX`` is ``1 << 31``.
_LARGEST_BITS = 31


def panic_reason(kernel: Kernel) -> str:
    """What follows ``Kernel panic - not syncing:``; if the log does not say, that it does not, and why."""
    why_not = ""
    for read in (_from_ring, _from_buffer):
        try:
            if reason := read(kernel):
                return reason
        except Absent:
            continue
        except Unobserved as error:
            why_not = why_not or f": {error.message}"
    return f"its log does not say why{why_not}"


def _from_ring(kernel: Kernel) -> str:
    """The last such record of ``struct printk_ringbuffer``, since 5.10."""
    ring = Structure(kernel, "struct printk_ringbuffer", kernel.variable("prb"))
    size, head = _entries(ring, "text_data_ring.size_bits"), ring.unsigned("text_data_ring.head_lpos")
    length = min(size, _LATEST_TEXT)
    start = (head - length) % size
    text = _circular(kernel, ring.unsigned("text_data_ring.data"), start, length, size)
    found = list(_PANIC.finditer(text))
    if not found:
        return ""
    begin = found[-1].start()
    known = 0
    with suppress(Unobserved):
        known = _record_length(kernel, ring, head - length + begin - kernel.architecture.word_size)
    record = text[begin : begin + known] if known else found[-1][0]
    return record.removeprefix(PANIC_WORDS).rstrip().decode("latin-1")


def _record_length(kernel: Kernel, ring: Structure, position: int) -> int:
    """Bytes of the text whose data block begins at this logical position, which counts on where the ring begins anew;
    0 if no descriptor leads there.
    """
    vmlinux, count = kernel.vmlinux, _entries(ring, "desc_ring.count_bits")
    descriptor, info = vmlinux.sizeof("struct prb_desc"), vmlinux.sizeof("struct printk_info")
    latest = min(count, _LATEST_RECORDS)
    first = (ring.unsigned("desc_ring.head_id") + 1 - latest) % count
    data = _circular(
        kernel, ring.unsigned("desc_ring.descs"), first * descriptor, latest * descriptor, count * descriptor
    )
    rows = np.frombuffer(data, np.uint8).reshape(latest, descriptor)
    place, word = vmlinux.offset("struct prb_desc", "text_blk_lpos.begin"), kernel.architecture.word
    begins = rows[:, place : place + word.itemsize].copy().view(word).ravel()
    infos = ring.unsigned("desc_ring.infos")
    found = np.flatnonzero(begins == position % kernel.architecture.address_end)
    if not len(found):
        return 0
    row = (first + int(found[-1])) % count
    return Structure(kernel, "struct printk_info", infos + row * info).unsigned("text_len")


def _from_buffer(kernel: Kernel) -> str:
    """Before the ring buffer: records in ``log_buf``, each with its text behind a header."""
    size = kernel.variable("log_buf_len")
    if size > _LATEST_TEXT:
        raise MemoryFault(
            kernel.address("log_buf_len"),
            f"a log of {size:,} bytes is more than is read while the guest is held",
            space="virtual",
        )
    found: list[bytes] = _PANIC.findall(read_virtual(kernel, kernel.variable("log_buf"), size))
    return found[-1].decode("latin-1") if found else ""


def _entries(ring: Structure, member: str) -> int:
    """A power of two that the ring buffer keeps as its exponent.

    :raises MemoryFault: if printk has no ring buffers of that size
    """
    bits = ring.unsigned(member)
    if bits > _LARGEST_BITS:
        raise MemoryFault(
            ring.at(member), f"{member} is {bits}, and no log has 2**{bits} bytes", space="virtual"
        )
    return 1 << bits


def _circular(kernel: Kernel, base: int, start: int, length: int, size: int) -> bytes:
    """``length`` bytes from ``start`` of the ``size`` at ``base``, going on at their beginning."""
    return b"".join(
        read_virtual(kernel, base + at, piece) for at, piece in _pieces(start, length, size) if piece
    )


def _pieces(start: int, length: int, size: int) -> Iterator[tuple[int, int]]:
    first = min(length, size - start)
    yield start, first
    yield 0, length - first

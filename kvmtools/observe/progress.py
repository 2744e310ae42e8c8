"""How far the kernel has come: what it has not set up yet, and whether it has panicked.

Source: start_kernel, init/main.c; setup_arch, arch/x86/kernel/setup.c; panic, kernel/panic.c (6.1).
"""

from __future__ import annotations

import re

import numpy as np

from kvmtools.errors import NotYet, Unobserved
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.per_cpu import read_virtual
from kvmtools.observe.structure import Structure
from kvmtools.records import Registers

_PANIC = re.compile(rb"Kernel panic - not syncing: ([\x20-\x7e]*)")
_NOBODY = -1  # PANIC_CPU_INVALID

_BEFORE_INIT = ("SYSTEM_BOOTING", "SYSTEM_SCHEDULING", "SYSTEM_FREEING_INITMEM")

#: What setup_arch() sets, in this order, each with what a kernel that has not come to it is called; the last is set
#: right behind it.
_LANDMARKS = (
    ("max_low_pfn", "before it knows its memory"),
    ("mem_map", "before there is a mem_map"),
    ("saved_command_line", "before its command line is set up"),
)


def setting_up(kernel: Kernel, registers: tuple[Registers, ...] = ()) -> str:
    """Where a kernel is that has not come to the end of ``setup_arch``: nothing of it is final; empty if it has.

    :param registers: of its CPUs, if they are known: before paging its bss holds what was there before
    """
    try:
        if not booting(kernel):
            return ""
        if registers and not any(cpu.paged for cpu in registers):
            return "before paging"
        for variable, words in _LANDMARKS:
            # A kernel of one node has the variable with SPARSEMEM, too, and never sets it (mm/memory.c).
            if variable == "mem_map" and kernel.vmlinux.has_symbol("mem_section"):
                continue
            if kernel.vmlinux.has_symbol(variable) and not kernel.variable(variable):
                return words
    except Unobserved:
        pass
    return ""


def booting(kernel: Kernel) -> bool:
    """Whether ``system_state`` says that nothing was scheduled yet; false if the kernel does not say."""
    return _system_state(kernel) == "SYSTEM_BOOTING"


def _system_state(kernel: Kernel) -> str:
    """``system_state`` by its name in ``enum system_states``; empty if it has none, or the kernel does not say."""
    try:
        value, names = kernel.variable("system_state"), kernel.vmlinux.enumerators("system_states")
    except Unobserved:
        return ""
    return next((name for name, number in names.items() if number == value), "")


def state(kernel: Kernel, registers: tuple[Registers, ...] = ()) -> str:
    """What is to be said of a kernel that does not just run: that it panicked and why, or how far it has come."""
    if reason := panic(kernel):
        return f"it has panicked: {reason}"
    if where := setting_up(kernel, registers):
        return f"it is still booting: {where}"
    now = _system_state(kernel)
    return f"it is still booting: {now}" if now in _BEFORE_INIT else ""


def not_yet(kernel: Kernel, what: str) -> NotYet:
    """What to raise if there is none of ``what`` because the kernel has not come to it."""
    where = setting_up(kernel) or "SYSTEM_BOOTING"
    return NotYet(
        f"there is no {what} yet: the kernel is still booting, {where}", hint="wait, or let it go on"
    )


def panic(kernel: Kernel) -> str:
    """Why the kernel panicked, in its own words; empty if it did not."""
    try:
        if kernel.variable("panic_cpu", signed=True) == _NOBODY:
            return ""
    except Unobserved:
        return ""
    for read in (_from_ring, _from_buffer):
        try:
            if reason := read(kernel):
                return reason
        except Unobserved:
            continue
    return "its log does not say why"


def _from_ring(kernel: Kernel) -> str:
    """The last such record of the printk ring buffer: ``struct printk_ringbuffer``, since 5.10."""
    ring = Structure(kernel, "struct printk_ringbuffer", kernel.variable("prb"))
    size = 1 << ring.unsigned("text_data_ring.size_bits")
    data = read_virtual(kernel, ring.unsigned("text_data_ring.data"), size)
    found = list(_PANIC.finditer(data))
    if not found:
        return ""
    begin = found[-1].start()
    length = _record_length(kernel, ring, begin - kernel.architecture.word_size, size)
    text = data[begin : begin + length] if length else found[-1][0]
    return text.partition(b": ")[2].rstrip().decode("latin-1")


def _record_length(kernel: Kernel, ring: Structure, block: int, size: int) -> int:
    """Bytes of the text whose data block begins at ``block``; 0 if no descriptor leads there."""
    vmlinux, count = kernel.vmlinux, 1 << ring.unsigned("desc_ring.count_bits")
    descriptor, info = vmlinux.sizeof("struct prb_desc"), vmlinux.sizeof("struct printk_info")
    rows = np.frombuffer(read_virtual(kernel, ring.unsigned("desc_ring.descs"), count * descriptor), np.uint8)
    place = vmlinux.offset("struct prb_desc", "text_blk_lpos.begin")
    word = kernel.architecture.word
    begins = rows.reshape(count, -1)[:, place : place + word.itemsize].copy().view(word).ravel()
    infos = ring.unsigned("desc_ring.infos")
    lengths = [
        Structure(kernel, "struct printk_info", infos + int(row) * info).unsigned("text_len")
        for row in np.flatnonzero(begins % size == block)
    ]
    return max(lengths, default=0)


def _from_buffer(kernel: Kernel) -> str:
    """Before the ring buffer: records in ``log_buf``, each with its text behind a header."""
    data = read_virtual(kernel, kernel.variable("log_buf"), kernel.variable("log_buf_len"))
    found: list[bytes] = _PANIC.findall(data)
    return found[-1].decode("latin-1") if found else ""

"""How far the kernel has come: what it has not set up yet, and whether it has panicked.

Source: start_kernel, init/main.c; setup_arch, arch/x86/kernel/setup.c; panic, kernel/panic.c (6.1).
"""

from __future__ import annotations

from kvmtools.errors import NotYet, Unobserved
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.printk import panic_reason
from kvmtools.observe.symbols.memory_model import has_sections
from kvmtools.records import Registers

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
            if variable == "mem_map" and has_sections(kernel.vmlinux):
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
    return panic_reason(kernel)

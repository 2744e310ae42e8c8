"""The plugin that drgn loads (entry point ``kvmtools`` of ``drgn.plugins``): i386 kernels' virtual addresses, symbols
where KASLR put them, and the ``%kvm-...`` commands.

drgn loads it in every session, whatever is debugged: this file imports nothing but drgn until an i386 kernel is seen.
"""

from __future__ import annotations

from drgn import Architecture, FaultError, Program, ProgramFlags


def drgn_prog_set(prog: Program) -> None:
    """Called by drgn when it has opened what is to be debugged, before it looks for symbols."""
    platform = prog.platform
    if platform is None or platform.arch is not Architecture.I386:
        return
    if prog.flags & ProgramFlags.IS_LOCAL:
        return  # a process, or the kernel that runs here
    if not (_is_kernel_core(prog) or _has_physical_memory(prog)):
        return  # the core of a process, or a program that somebody gives his own memory to
    from kvmtools.companions.drgn.adoption import adopt_program

    adopt_program(prog)


def _is_kernel_core(prog: Program) -> bool:
    return prog.core_dump_path is not None and bool(prog.flags & ProgramFlags.IS_LINUX_KERNEL)


def _has_physical_memory(prog: Program) -> bool:
    """Whether it was opened by QMP, which has that from the start."""
    try:
        return prog.core_dump_path is None and len(prog.read(0, 1, physical=True)) == 1
    except FaultError:
        return False

"""Whose page tables a CR3 leads to."""

from __future__ import annotations

from collections.abc import Iterable

from kvmtools.observe.kernel import Kernel
from kvmtools.observe.tasks.processes import Process
from kvmtools.records import PAGE_SIZE

# PTI_PGTABLE_SWITCH_BIT (arch/x86/include/asm/pgtable.h): the user's copy of a pgd follows the kernel's.
USER_HALF = PAGE_SIZE
UNKNOWN = "unknown"


def page_table_owner(kernel: Kernel, cr3: int, processes: Iterable[Process], *, pti: bool) -> str:
    """``"swapper_pg_dir"``, ``"pid 1 (init)"``, maybe with ``", user half"`` behind it; or ``"unknown"``.

    :param pti: page-table isolation is active (:attr:`kvmtools.records.Configuration.pti`)
    """
    top = cr3 & kernel.paging.cr3
    owners = {process.pgd: f"pid {process.pid} ({process.comm})" for process in processes}
    for name in (*kernel.architecture.boot_roots, kernel.architecture.root):
        if kernel.vmlinux.has_symbol(name):
            owners[kernel.physical(kernel.address(name))] = name
    if top in owners:
        return owners[top]
    if pti and top & USER_HALF and top - USER_HALF in owners:
        return f"{owners[top - USER_HALF]}, user half"
    return UNKNOWN

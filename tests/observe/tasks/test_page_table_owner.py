"""Whose page tables: the kernel's, a process's, either half of them under page-table isolation."""

from __future__ import annotations

from typing import Any

import pytest

from kvmtools.observe.kernel import Kernel
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.observe.tasks.page_table_owner import page_table_owner
from kvmtools.observe.tasks.processes import Process

PROCESSES = (Process(1, "init", 0, 0, 0x12_4000), Process(80, "sh", 0, 0, 0x12_6020))


def kernel(*, pae: bool = True) -> Kernel:
    symbols: dict[str, Any] = {
        "symbol swapper_pg_dir": 0xC001_0000,
        "symbol initial_page_table": 0xC002_0000,
        "sizeof pte_t": 8 if pae else 4,
    }
    return Kernel(Vmlinux("0" * 40, symbols), 0x10_0000, None, 0xC000_0000, 1 << 32)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cr3", "pti", "owner"),
    [
        (0x11_0000, True, "swapper_pg_dir"),
        (0x11_1000, True, "swapper_pg_dir, user half"),
        (0x11_1000, False, "unknown"),
        (0x12_0000, False, "initial_page_table"),
        (0x12_4000, True, "pid 1 (init)"),
        (0x12_5000, True, "pid 1 (init), user half"),
        (0x12_6020, False, "pid 80 (sh)"),
        (0x12_6038, False, "pid 80 (sh)"),  # the low bits are flags
        (0x12_6000, False, "unknown"),
    ],
)
def test_owners(cr3: int, pti: bool, owner: str) -> None:
    assert page_table_owner(kernel(), cr3, PROCESSES, pti=pti) == owner


def test_a_kernel_without_pae_keeps_the_offset_out_of_it() -> None:
    assert page_table_owner(kernel(pae=False), 0x11_0018, PROCESSES, pti=False) == "swapper_pg_dir"

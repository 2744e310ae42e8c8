"""What the exceptions say: the kernel's condition, the address, and exit code 1."""

from __future__ import annotations

import pytest

from kvmtools.errors import KvmtoolsError
from kvmtools.model.bugs import KernelBug, KernelStops, Unmapped


def test_a_bug_names_its_condition() -> None:
    bug = KernelBug("!vaddr", "kunmap of page 3, which is not mapped")
    assert bug.condition == "!vaddr"
    assert str(bug) == "BUG_ON(!vaddr): kunmap of page 3, which is not mapped"
    assert str(KernelBug("!vaddr", "not mapped", hint="kmap it first")) == (
        "BUG_ON(!vaddr): not mapped (kmap it first)"
    )


def test_an_access_to_an_unmapped_struct_page_names_its_address() -> None:
    oops = Unmapped(0xC4, "struct page of pfn 9")
    assert oops.address == 0xC4
    assert str(oops) == "unable to handle kernel paging request at 000000c4: struct page of pfn 9"
    assert str(Unmapped(0xF4000000, "x", hint="check pfn_valid")) == (
        "unable to handle kernel paging request at f4000000: x (check pfn_valid)"
    )


@pytest.mark.parametrize("kind", [KernelBug, Unmapped])
def test_where_the_kernel_stops_the_command_exits_with_1(kind: type[KernelStops]) -> None:
    assert issubclass(kind, KernelStops)
    assert issubclass(kind, KvmtoolsError)
    assert kind.exit_code == 1

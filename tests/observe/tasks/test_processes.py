"""The processes of recorded guests: our init, alone or with its workers."""

from __future__ import annotations

import struct
from collections.abc import Callable

from kvmtools.observe.broken import Broken
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.paging.walk import walk
from kvmtools.observe.tasks.processes import observe_processes

Patch = Callable[[int, bytes], None]


def test_init_is_there_and_no_kernel_thread(recorded: Kernel) -> None:
    processes = observe_processes(recorded)
    assert (processes[0].pid, processes[0].comm) == (1, "init")
    assert all(each.comm == "init" for each in processes)
    assert len({each.mm for each in processes}) == len(processes)


def test_its_page_tables_share_the_kernels_half(recorded: Kernel) -> None:
    init = observe_processes(recorded)[0]
    half = {"start": recorded.page_offset, "end": recorded.page_offset + (16 << 20)}
    root = recorded.physical(recorded.address("swapper_pg_dir"))
    kernels = walk(recorded.memory, root, recorded.paging, **half)
    own = walk(recorded.memory, init.pgd, recorded.paging, **half)
    assert len(own)
    assert (own.physical == kernels.physical).all()


def test_a_list_that_does_not_come_back_ends(recorded: Kernel, patch: Patch) -> None:
    init = observe_processes(recorded)[0]
    link = init.task + recorded.vmlinux.offset("struct task_struct", "tasks")
    patch(link, struct.pack("<I", link))
    broken: list[Broken] = []
    assert observe_processes(recorded, broken) == (init,)
    (loop,) = broken
    assert (loop.structure, loop.address) == ("task list", init.task)
    assert "does not come back" in loop.reason


def test_a_list_that_leads_out_of_the_kernel_ends_there(recorded: Kernel, patch: Patch) -> None:
    init = observe_processes(recorded)[0]
    patch(init.task + recorded.vmlinux.offset("struct task_struct", "tasks"), struct.pack("<I", 0x1000_0000))
    broken: list[Broken] = []
    assert observe_processes(recorded, broken) == (init,)
    assert [each.structure for each in broken] == ["task list"]
    assert broken[0].space == "virtual"


def test_a_process_without_page_tables_is_left_out(recorded: Kernel, patch: Patch) -> None:
    first, *others = observe_processes(recorded)
    patch(first.mm + recorded.vmlinux.offset("struct mm_struct", "pgd"), struct.pack("<I", 0x100))
    broken: list[Broken] = []
    assert observe_processes(recorded, broken) == tuple(others)
    assert [(each.structure, each.address) for each in broken] == [("pid 1", 0x100)]
